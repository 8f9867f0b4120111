"use strict";
// Enlarges a picture in a dialog. Without this script the page is whole, only smaller.
(() => {
  const dialog = document.querySelector("dialog.lightbox");
  if (!dialog || !dialog.showModal) return;
  const buttons = [...document.querySelectorAll("button.zoom")];
  const stage = dialog.querySelector(".stage");
  const words = dialog.querySelector(".words");
  let shown = 0;

  const show = (index) => {
    shown = (index + buttons.length) % buttons.length;
    const image = buttons[shown].querySelector("img").cloneNode();
    stage.replaceChildren(image);
    words.textContent = image.alt;
  };
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => {
      show(index);
      dialog.showModal();
    });
  });
  dialog.addEventListener("click", (event) => {
    const step = event.target.dataset.step;
    if (step) show(shown + Number(step));
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(shown - 1);
    if (event.key === "ArrowRight") show(shown + 1);
  });
  dialog.addEventListener("close", () => {
    stage.replaceChildren();
    buttons[shown].focus();
  });
  document.documentElement.classList.add("zooms");
})();
