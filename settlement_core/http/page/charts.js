// Curves, drawn by uPlot. Here, and only here, amounts become floats: a curve has no digits.

import { when } from "./times.js";
import uPlot from "./uplot/uPlot.esm.js";

const HEIGHT = 190;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}

/**
 * Draw `series` ({label, colour, bars}) in an element; return the function that gives the chart new columns: the times,
 * and then one column for each series. `written` turns a number into text.
 */
export function chart(element, series, written) {
  let plot = null;
  let shown = null;

  function axis(more) {
    return {
      stroke: colour("--soft"),
      grid: { stroke: colour("--line"), width: 1 },
      ticks: { stroke: colour("--line"), width: 1, size: 4 },
      font: "12px system-ui, sans-serif",
      ...more,
    };
  }

  function drawn({ label, colour: name, bars }) {
    const line = colour(name);
    const paths = bars ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear();
    const fill = bars ? `color-mix(in srgb, ${line} 22%, transparent)` : undefined;
    const value = (_, number) => (number === null || number === undefined ? "–" : written(number));
    return { label, stroke: line, width: 2, paths, fill, value, spanGaps: !bars, points: { show: !bars, size: 5 } };
  }

  function draw() {
    plot?.destroy();
    const options = {
      width: Math.max(200, element.clientWidth),
      height: HEIGHT,
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { x: { time: true }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
      axes: [axis({ values: (_, times) => times.map(clock), space: 60 }), axis({ size: 64, values: (_, numbers) => numbers.map(written) })],
      series: [{ value: (_, at) => (at ? when(at) : "–") }, ...series.map(drawn)],
    };
    plot = new uPlot(options, shown, element);
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown && draw());
  new ResizeObserver(() => {
    const width = Math.max(200, element.clientWidth);
    if (plot !== null && plot.width !== width) plot.setSize({ width, height: HEIGHT });
  }).observe(element);

  return (columns) => {
    shown = columns;
    if (plot === null) draw();
    else plot.setData(columns);
  };
}
