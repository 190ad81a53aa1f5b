"use strict";
(() => {
  const tip = document.getElementById("tip");
  let current = null;
  let byKeys = false;

  // What a mark tells: its own text, or that of a map's cell in its row and column.
  const told = (mark) => {
    if (mark.dataset.tip) return mark.dataset.tip;
    const map = mark.closest(".map");
    const column = map.dataset.columns.split("\n")[Number(mark.dataset.c)];
    const row = mark.parentNode.dataset.row.trim();
    return `${row}\n${column}\n${mark.dataset.v} ${map.dataset.unit || ""}`;
  };

  const unmark = () => {
    if (!current) return;
    current.classList.remove("on");
    const rule = current.ownerSVGElement.querySelector(".rule");
    if (rule) rule.remove();
    current = null;
  };

  const show = (mark, x, y) => {
    if (mark !== current) {
      unmark();
      current = mark;
      mark.classList.add("on");
      if (mark.dataset.x) {
        const rule = document.createElementNS("http://www.w3.org/2000/svg", "path");
        const top = Number(mark.getAttribute("y"));
        rule.setAttribute("d", `M${mark.dataset.x} ${top}v${mark.getAttribute("height")}`);
        rule.setAttribute("class", "rule");
        mark.ownerSVGElement.append(rule);
      }
      tip.textContent = told(mark);
      tip.hidden = false;
    }
    const room = 14;
    const left = Math.min(x + room, window.innerWidth - tip.offsetWidth - 8);
    const above = y - tip.offsetHeight - room;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 8 ? above : y + room}px`;
  };

  const hide = () => {
    unmark();
    byKeys = false;
    tip.hidden = true;
  };

  const showBeside = (mark) => {
    const area = mark.getBoundingClientRect();
    show(mark, area.x + area.width / 2, area.y + Math.min(area.height / 2, 60));
  };

  const marksOf = (plot) => [...plot.querySelectorAll("[data-tip], [data-c]")];

  for (const plot of document.querySelectorAll(".plot")) {
    plot.tabIndex = 0;
    plot.setAttribute("role", "group");
    const name = plot.parentNode.querySelector("h3").textContent;
    plot.setAttribute("aria-label", `${name}: arrow keys read the values`);
    plot.addEventListener("pointermove", (event) => {
      const mark = event.target.closest("[data-tip], [data-c]");
      byKeys = false;
      if (mark) show(mark, event.clientX, event.clientY);
      else hide();
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      const map = plot.querySelector(".map");
      const row = map ? map.dataset.columns.split("\n").length : 1;
      const moves = { ArrowRight: 1, ArrowDown: row, ArrowLeft: -1, ArrowUp: -row, Home: -Infinity, End: Infinity };
      if (!(event.key in moves)) return;
      const marks = marksOf(plot);
      if (!marks.length) return;
      event.preventDefault();
      const place = marks.indexOf(current);
      const wanted = place < 0 ? 0 : place + moves[event.key];
      const next = Math.min(Math.max(wanted, 0), marks.length - 1);
      marks[next].scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
      byKeys = true;
      showBeside(marks[next]);
    });
  }
  // What keys have chosen moves with the page; what the mouse points at does not.
  window.addEventListener("scroll", () => byKeys ? showBeside(current) : hide(), { passive: true });

  // Which section is being read.
  const links = new Map();
  for (const link of document.querySelectorAll(".contents a")) links.set(link.hash.slice(1), link);
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.classList.remove("here");
      links.get(entry.target.id).classList.add("here");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const section of document.querySelectorAll("main section")) seen.observe(section);
})();
