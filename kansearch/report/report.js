"use strict";
// Draws the figures in the colours and the width of the page, and again when either changes.
(() => {
  const NARROW = 560; // pixels; below it panels are stacked and fingers scroll instead of zooming
  const config = {
    displaylogo: false,
    responsive: true,
    // Named one by one: plotly's own set has a button that sends the figure to a server.
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["resetScale2d"]],
    plotlyServerURL: "",
  };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const plots = [...document.querySelectorAll(".plot")].map((div) => ({
    div,
    source: document.getElementById(`${div.id}-data`).textContent,
  }));

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function paint(figure) {
    const [ink, muted, line, surface] = ["--ink", "--muted", "--line", "--surface"].map(colour);
    for (const trace of figure.data) {
      const own = colour(`--${(trace.meta || {}).role || "ink"}`);
      if (trace.marker) {
        trace.marker.color = own;
        if (trace.marker.line) trace.marker.line.color = ink;
      }
      if (trace.line) trace.line.color = own;
    }
    const layout = figure.layout;
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font.color = ink;
    layout.font.family = getComputedStyle(document.body).fontFamily;
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: surface, bordercolor: line, font: { color: ink, size: 13 } };
    layout.modebar = { color: muted, activecolor: ink, bgcolor: "rgba(0,0,0,0)" };
    for (const [key, axis] of Object.entries(layout)) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      Object.assign(axis, { gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line });
      axis.tickfont = { ...axis.tickfont, color: muted };
      if (axis.title) axis.title.font = { color: muted, size: 13 };
    }
  }

  // The same arithmetic as figures.py, for the columns that fit.
  function arrange(layout, narrow) {
    const grid = layout.meta;
    if (!grid || !grid.panels) return;
    const columns = narrow ? grid.narrow : grid.columns;
    const rows = Math.ceil(grid.panels / columns);
    const inner = rows * grid.row;
    const height = (1 - (grid.gapY * (rows - 1)) / inner) / rows;
    const gapX = narrow && grid.sharedY ? 0.08 : grid.gapX;
    const width = (1 - gapX * (columns - 1)) / columns;
    for (let i = 0; i < grid.panels; i++) {
      const column = i % columns;
      const left = column * (width + gapX);
      const top = 1 - Math.floor(i / columns) * (height + grid.gapY / inner);
      layout[`xaxis${i ? i + 1 : ""}`].domain = [left, left + width];
      const vertical = layout[`yaxis${i ? i + 1 : ""}`];
      vertical.domain = [Math.max(0, top - height), top];
      vertical.showticklabels = !grid.sharedY || column === 0;
      const title = (layout.annotations || [])[i];
      if (title) Object.assign(title, { x: left, y: top });
    }
    layout.height = inner + layout.margin.t + layout.margin.b;
  }

  function draw(plot, width) {
    const figure = JSON.parse(plot.source);
    const narrow = width < NARROW;
    arrange(figure.layout, narrow);
    paint(figure);
    if (narrow) {
      figure.layout.dragmode = false;
      figure.layout.margin = { ...figure.layout.margin, l: 48, r: 8 };
      figure.layout.font.size = 12;
    }
    if (width) figure.layout.width = width;
    return Plotly.react(plot.div, figure.data, figure.layout, { ...config, displayModeBar: narrow ? false : "hover" });
  }

  let drawnWidth = 0;
  const drawAll = (width) => {
    drawnWidth = width;
    return Promise.all(plots.map((plot) => draw(plot, width)));
  };
  const pageWidth = () => (plots.length ? plots[0].div.parentElement.clientWidth : 0);

  dark.addEventListener("change", () => drawAll(pageWidth()));
  let timer = 0;
  window.addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(() => pageWidth() !== drawnWidth && drawAll(pageWidth()), 120);
  });

  // On paper figures are light (the style sheet sees to the page) and as wide as the paper.
  window.addEventListener("beforeprint", () => {
    document.documentElement.classList.add("paper");
    drawAll(660);
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    drawAll(pageWidth());
  });

  drawAll(pageWidth()).then(() => {
    document.documentElement.dataset.plots = "drawn";
  });
})();
