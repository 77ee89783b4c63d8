// Opens page/ in a headless Chromium, from an origin of its own, and waits until it shows rows.
//
//   node src/browser.ts SIM ALFA,ECHO/USD 100 [screenshot.png]

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import chromium from "@sparticuz/chromium";
import { build } from "esbuild";
import puppeteer, { type Page } from "puppeteer-core";

const [dataset, symbols, wanted, screenshot] = process.argv.slice(2);
const gateway = process.env.MDA_URL ?? "";
const folder = new URL("../page/", import.meta.url);

const bundle = await build({
  entryPoints: [new URL("page.ts", folder).pathname],
  bundle: true,
  format: "esm",
  target: "es2022",
  write: false,
});
const files: Record<string, [string, string | Uint8Array]> = {
  "/": ["text/html; charset=utf-8", await readFile(new URL("index.html", folder))],
  "/page.js": ["text/javascript", bundle.outputFiles[0].contents],
};
const server = createServer((request, response) => {
  const [type, content] = files[request.url ?? ""] ?? ["", ""];
  response.writeHead(type ? 200 : 404, { "content-type": type || "text/plain" }).end(content);
});
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

const browser = await puppeteer.launch({
  args: chromium.args,
  executablePath: await chromium.executablePath(),
  headless: "shell",
});
try {
  const page = await browser.newPage();
  const asked = new URLSearchParams({ gateway, token: await fetchToken(), dataset, symbols });
  await page.goto(`${origin}/#${asked}`);
  console.log(`${await browser.version()}: ${await shown(page, Number(wanted))} from ${gateway}, to a page of ${origin}`);
  if (screenshot) await page.screenshot({ path: screenshot as `${string}.png` });
} finally {
  await browser.close();
  server.close();
}

/** Exchanges the API key for a token: a page gets one from its own server, never the key. */
async function fetchToken(): Promise<string> {
  const [id, secret] = (process.env.MDA_API_KEY ?? "").split(".");
  const body = new URLSearchParams({ grant_type: "client_credentials", client_id: id, client_secret: secret });
  const answer = await (await fetch(`${gateway}/oauth2/token`, { method: "POST", body })).json();
  if (!answer.access_token) throw new Error(`no token: ${answer.error}`);
  return answer.access_token;
}

/** Waits until the page shows so many rows, or that something failed. */
async function shown(page: Page, rows: number): Promise<string> {
  const told = () => document.getElementById("status")?.textContent ?? "";
  await page.waitForFunction(
    (rows) => {
      const text = document.getElementById("status")?.textContent ?? "";
      return text.startsWith("failed") || Number.parseInt(text) >= rows;
    },
    { timeout: 30_000 },
    rows,
  );
  const text = await page.evaluate(told);
  if (text.startsWith("failed")) throw new Error(text);
  return text;
}
