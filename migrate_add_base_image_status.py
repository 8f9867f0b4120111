"""Add personas.base_image_status and its index to a database that lacks them.

    python migrate_add_base_image_status.py [--database-url URL] [--dry-run] [--downgrade]

A thin door to one Alembic revision; there is one migration history. Every row is kept, the whole is
one transaction, and the script may be run twice. `gator db upgrade` goes on from here to the newest
revision.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "src"))

from backend.config import load_settings
from backend.database.engine import Database
from backend.database.status_column import add_base_image_status, remove_base_image_status
from backend.errors import GatorError


async def migrate(url: str, *, down: bool = False, dry_run: bool = False) -> str:
    """Run the migration, or its way back, and say what it did or would do."""
    database = Database(url)
    try:
        if down:
            return await remove_base_image_status(database, dry_run=dry_run)
        return await add_base_image_status(database, dry_run=dry_run)
    finally:
        await database.close()


def main() -> int:
    """Read the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--database-url", help="default: GATOR_DATABASE_URL, else the home's SQLite"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done; change nothing"
    )
    parser.add_argument(
        "--downgrade",
        action="store_true",
        help="take the column away again; the studio's own tables go with it",
    )
    arguments = parser.parse_args()
    try:
        url = arguments.database_url or load_settings().effective_database_url
        said = asyncio.run(migrate(url, down=arguments.downgrade, dry_run=arguments.dry_run))
        sys.stdout.write(said + "\n")
    except GatorError as exc:
        sys.stderr.write(f"{exc.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
