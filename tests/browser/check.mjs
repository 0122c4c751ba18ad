// Checks the pages of an admin port in a browser, and writes a screenshot of /statusz.
//
//   check.mjs ADMIN PROFILE_DIRECTORY SCREENSHOT

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { Chromium } from "./chromium.mjs";

const [admin, profile, screenshot] = process.argv.slice(2);
const origin = `http://${admin}`;
const WIDE = 1000;
const PHONE = 360;
const browser = await Chromium.start(profile);

// The contrast of each text with its background (WCAG 2.2, "contrast ratio"), and the lowest of them.
function lowestContrast() {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([red, green, blue]) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = [red, green, blue].map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (element) => {
    const colour = channels(getComputedStyle(element).backgroundColor);
    return colour[3] === 0 && element.parentElement ? background(element.parentElement) : colour;
  };
  const contrasts = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const text = texts.currentNode.textContent.trim();
    if (!text) continue;
    const [one, two] = [channels(getComputedStyle(element).color), background(element)].map(luminance);
    contrasts.push({ text, contrast: (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05) });
  }
  return contrasts.reduce((low, next) => (next.contrast < low.contrast ? next : low));
}

function content() {
  const texts = (selector) => [...document.querySelectorAll(selector)].map((element) => element.innerText.trim());
  const all = (selector, holds) => [...document.querySelectorAll(selector)].every(holds);
  return {
    title: document.title,
    language: document.documentElement.lang,
    h1: texts("h1"),
    h2: texts("h2"),
    credential: texts("[aria-labelledby=credentials] tbody tr"),
    budgets: texts("[aria-labelledby=quota] tbody tr"),
    methods: texts("[aria-labelledby=calls] tbody th"),
    latest: document.querySelectorAll("[aria-labelledby=latest] tbody tr").length,
    settings: texts("[aria-labelledby=configuration] tbody th"),
    charts: [...document.querySelectorAll("svg[role=img]")].map((chart) => ({
      label: chart.getAttribute("aria-label"),
      lines: [...chart.querySelectorAll("g path")].filter((path) => path.getAttribute("d").includes("L")).length,
    })),
    headsHaveScopes: all("th", (head) => ["row", "col"].includes(head.scope)),
    regionsAreNamed: all("[role=region]", (region) => document.getElementById(region.getAttribute("aria-labelledby"))),
    scripts: document.scripts.length,
  };
}

const colours = () => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color];

// The width of the content. A phone's browser makes the window as wide as the content, so that tells nothing.
const contentWidth = () => document.documentElement.scrollWidth;

// A line of a chart needs two slots.
async function untilThereAreLines() {
  for (;;) {
    const { calls } = await (await fetch(`${origin}/statusz.json`)).json();
    if (calls.series.p50_ms.filter((latency) => latency !== null).length >= 3) return;
    await sleep(500);
  }
}

try {
  await untilThereAreLines();
  const seen = {};
  for (const scheme of ["light", "dark"]) {
    for (const width of [WIDE, PHONE]) {
      for (const path of ["/", "/statusz"]) {
        await browser.open(origin + path, { width, scheme });
        assert.equal(await browser.evaluate(contentWidth), width, `the width of ${path}`);
        const lowest = await browser.evaluate(lowestContrast);
        assert.ok(lowest.contrast >= 4.5, `${path} in the ${scheme} scheme: ${JSON.stringify(lowest)}`);
      }
      seen[scheme] = await browser.evaluate(colours);
    }
  }
  assert.notEqual(seen.light[0], seen.dark[0]);
  assert.notEqual(seen.light[1], seen.dark[1]);

  await browser.open(`${origin}/statusz`, { width: WIDE, scheme: "light" });
  const page = await browser.evaluate(content);
  assert.equal(page.title, "Countermand: ready");
  assert.equal(page.language, "en");
  assert.deepEqual(page.h1, ["Countermand"]);
  assert.deepEqual(page.h2, [
    "Credentials",
    "Calls",
    "Requests to the Android Management API",
    "Quota",
    "Latest calls",
    "Listeners",
    "Configuration",
  ]);
  assert.equal(page.credential.length, 1);
  assert.match(page.credential[0], /^default\s+valid\s+\d+m( \d+s)?\s+1\s+0$/);
  assert.equal(page.budgets.length, 1);
  assert.match(page.budgets[0], /^\S+\s+shadow\s+5\.7\/s\s+5\.7\/s\s+\d\s+\d+ \/ \d+ \/ \d+\s+–\s+0\s+–$/);
  for (const method of ["CancelOperation", "GetOperation", "ListOperations", "WaitOperation"]) {
    assert.ok(page.methods.includes(method), method);
  }
  assert.equal(page.latest, 50);
  assert.ok(page.settings.includes("upstream.url"));
  assert.equal(page.charts.length, 5);
  for (const { label, lines } of page.charts) {
    assert.match(label, /, last 10 minutes\. .*: now .*, highest /);
    assert.ok(lines >= 2, `${label}: ${lines} lines`);
  }
  assert.ok(page.headsHaveScopes && page.regionsAreNamed);
  assert.equal(page.scripts, 0);

  // The part above the list of calls.
  const height = await browser.evaluate(() => document.getElementById("latest").getBoundingClientRect().top);
  const image = await browser.screenshot(WIDE, Math.floor(height));
  assert.ok(image.length > 10_000, "the screenshot is empty");
  writeFileSync(screenshot, image);

  await browser.open(`${origin}/statusz?refresh`, { width: WIDE, scheme: "light" });
  assert.equal(await browser.evaluate(() => document.querySelector("meta[http-equiv=refresh]").content), "10");

  assert.deepEqual(browser.errors, []);
  const elsewhere = browser.requests.filter((url) => !url.startsWith(`${origin}/`) && url !== "data:,");
  assert.deepEqual(elsewhere, []);
  assert.ok(browser.requests.every((url) => !url.endsWith("/favicon.ico")));
  console.log(`check.mjs: ${page.charts.length} charts, screenshot of ${image.length} bytes`);
} finally {
  await browser.end();
}
