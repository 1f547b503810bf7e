// The live view, and two keys. Everything else works without this file.
"use strict";

(() => {
  const MOST_ROWS = 200;

  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const field = document.querySelector("[data-focus]");
      if (field) {
        event.preventDefault();
        field.focus();
      }
    }
  });

  const place = document.querySelector("[data-stream]");
  if (!place || !window.EventSource) {
    return;
  }
  const body = place.querySelector("tbody");
  const state = document.getElementById("live-state");
  const pause = document.getElementById("live-pause");
  const known = new Set([...body.querySelectorAll(".c-what a")].map((one) => one.getAttribute("href")));
  let source = null;

  const say = (text, live) => {
    state.textContent = text;
    state.classList.toggle("on", live);
  };

  const show = (event) => {
    const rows = document.createElement("tbody");
    rows.innerHTML = event.data; // rendered and escaped by the server, as every page is
    for (const row of [...rows.children].reverse()) {
      const href = row.querySelector(".c-what a").getAttribute("href");
      if (!known.has(href)) {
        known.add(href);
        row.classList.add("fresh");
        body.prepend(row);
      }
    }
    while (body.children.length > MOST_ROWS) {
      known.delete(body.lastElementChild.querySelector(".c-what a").getAttribute("href"));
      body.lastElementChild.remove();
    }
  };

  const open = () => {
    source = new EventSource(place.dataset.stream);
    source.addEventListener("open", () => say("Live", true));
    source.addEventListener("decisions", show);
    source.addEventListener("ended", () => {
      source.close();
      say("The login has ended. Reload to log in again.", false);
      pause.hidden = true;
    });
    source.addEventListener("error", () => say("Connecting again…", false));
  };

  pause.hidden = false;
  pause.addEventListener("click", () => {
    if (source) {
      source.close();
      source = null;
      say("Paused", false);
      pause.textContent = "Go on";
    } else {
      open();
      pause.textContent = "Pause";
    }
  });
  open();
})();
