// Draws each figure when it comes near the screen, all of them before printing, and again when the
// colour scheme changes. Figures are Plotly JSON with colours of the theme as tokens.
"use strict";
(() => {
  const { config, figures } = JSON.parse(document.getElementById("drawings").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // Where a finger scrolls the page it shall not zoom the figures.
  const dragmode = matchMedia("(hover: none)").matches ? false : "zoom";

  const palette = () => {
    const style = getComputedStyle(root);
    return Object.fromEntries(
      ["ink", "soft", "grid", "paper", "middle", "sans"].map((k) => ["$" + k, style.getPropertyValue("--" + k).trim()])
    );
  };

  // A deep copy with tokens replaced by the colours of the moment.
  const themed = (x, colours) => {
    if (typeof x === "string") return x in colours ? colours[x] : x;
    if (Array.isArray(x)) return x.map((v) => themed(v, colours));
    if (x && typeof x === "object") {
      return Object.fromEntries(Object.entries(x).map(([k, v]) => [k, themed(v, colours)]));
    }
    return x;
  };

  const draw = (plot, extra = {}) => {
    const figure = figures[plot.id];
    const colours = palette();
    const layout = { ...themed(figure.layout, colours), dragmode, ...extra };
    try {
      Plotly.react(plot, themed(figure.data, colours), layout, config);
      plot.dataset.drawn = "true";
    } catch (error) {
      plot.dataset.drawn = "false";
      plot.textContent = "This figure could not be drawn; its numbers are below.";
      console.error(plot.id, error);
    }
  };

  const drawn = () => plots.filter((p) => p.dataset.drawn === "true");

  const observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        observer.unobserve(entry.target);
        if (!entry.target.dataset.drawn) draw(entry.target);
      }
    },
    { rootMargin: "300px" }
  );
  plots.forEach((p) => observer.observe(p));
  dark.addEventListener("change", () => drawn().forEach((p) => draw(p)));

  // Paper is light and as wide as a page, whatever the screen; its notes cannot be opened.
  const methods = [...document.querySelectorAll(".method:not([open])")];
  addEventListener("beforeprint", () => {
    root.dataset.print = "";
    methods.forEach((m) => (m.open = true));
    plots.forEach((p) => draw(p, { autosize: false, width: 640, height: p.classList.contains("tall") ? 560 : 300 }));
  });
  addEventListener("afterprint", () => {
    delete root.dataset.print;
    methods.forEach((m) => (m.open = false));
    plots.forEach((p) => draw(p));
  });

  const download = document.getElementById("download");
  download.hidden = false;
  download.addEventListener("click", () => {
    const text = document.getElementById("facts").textContent;
    download.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  });
})();
