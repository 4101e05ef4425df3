// Debian's Chromium, and a page in it that fails its test when it complains.

import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';

const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';
const QUIET = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'];

export const launch = (): Promise<Browser> =>
  chromium.launch({ executablePath: EXECUTABLE, args: QUIET }).catch(error => {
    throw new Error(`${EXECUTABLE} does not start; on Debian: apt-get install chromium`, { cause: error });
  });

export interface Opened {
  page: Page;
  /** What the page complained of: exceptions, and what its policy forbade. A collector that is gone is no fault of the page. */
  complaints: string[];
}

export async function open(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Opened> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('pageerror', error => complaints.push(error.message));
  page.on('console', message => {
    if (message.type() === 'error' && !message.text().includes('net::ERR')) complaints.push(message.text());
  });
  await page.goto(url);
  return { page, complaints };
}
