// The page over the real binaries: one small planet, from no agent yet to a collector that dies under the page.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { launch, open, type Opened } from './browser';
import { World } from './world';

const REGIONS = 6;
/** A first window, its judgement, and a slow machine. */
const MEASURED_MS = 60_000;
const SEEN_MS = 40_000;

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let world: World;
let browser: Browser;
let main: Opened;

beforeAll(async () => {
  [world, browser] = await Promise.all([World.start(REGIONS), launch()]);
  main = await open(browser, world.url);
  if (!(await main.page.locator('script[src]').count())) throw new Error('the collector was compiled without the page: npm run build, then cargo build');
});

afterAll(async () => {
  await browser?.close();
  await world?.stop();
});

const news = (page: Page) => page.getByRole('status');
const cell = (page: Page, source: string, region: string) => page.getByRole('gridcell', { name: new RegExp(`^${source} to ${region}:`) });
const mode = (page: Page, is: string, timeout: number) => page.waitForSelector(`[data-mode=${is}]`, { timeout });

/** Names of the first row and of the columns, in their order. */
async function names(page: Page): Promise<{ sources: string[]; regions: string[] }> {
  const all = async (selector: string) => (await page.locator(selector).allTextContents()).map(text => text.trim());
  return { sources: await all('[role=grid] tbody th'), regions: await all('[role=grid] thead .name') };
}

async function faults(page: Page): Promise<string[]> {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => (window as unknown as { axe: typeof import('axe-core') }).axe.run());
  return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ target }) => target.join(' ')).join(', ')}`);
}

describe('the page', () => {
  it('says what to do while there is no agent', async () => {
    await mode(main.page, 'empty', SEEN_MS);
    await expect.poll(() => news(main.page).textContent()).toBe('Waiting for the first measurements.');
    expect(await main.page.getByText('isochrone-agent run --config agent.toml').isVisible()).toBe(true);
    expect(await faults(main.page)).toEqual([]);
  });

  it('fills by itself when agents report', async () => {
    world.startAgents();
    await mode(main.page, 'live', MEASURED_MS);
    await main.page.waitForSelector('[role=gridcell][data-state=ok]', { timeout: MEASURED_MS });
    await news(main.page).getByText('All is well').waitFor({ timeout: MEASURED_MS });
    const { sources, regions } = await names(main.page);
    expect(sources).toHaveLength(REGIONS);
    await main.page.getByText('measured', { exact: true }).waitFor({ timeout: MEASURED_MS });
    expect(new URL(main.page.url()).searchParams.get('source')).toBe(sources[0]);
    expect(regions.length).toBeGreaterThan(2);
  });

  it('lets the keyboard reach a cell and read its numbers, and keeps the cell in the address', async () => {
    const { page } = main;
    const { sources: [, source = ''], regions: [first = '', region = ''] } = await names(page);
    await page.getByRole('grid').locator('[tabindex="0"]').focus();
    for (const key of ['ArrowDown', 'ArrowRight', 'ArrowRight']) await page.keyboard.press(key);
    const focused = page.locator(':focus');
    expect(await focused.getAttribute('aria-label')).toMatch(new RegExp(`^${source} to ${region}: ok, p50 [0-9.]+ ms$`));
    const readout = await page.locator('#readout').innerText();
    expect(readout).toMatch(new RegExp(`${source} → ${region}.*p50 ms\\s+[0-9.]+\\s+p95 ms\\s+[0-9.]+`, 's'));
    await page.getByRole('heading', { name: `Hint: ${source} → voice` }).waitFor();
    await page.getByRole('rowheader', { name: 'icmp' }).first().waitFor({ timeout: SEEN_MS });
    await expect.poll(() => new URL(page.url()).search).toBe(`?service=voice&source=${source}&region=${region}`);

    await page.reload();
    await expect.poll(() => cell(page, source, region).getAttribute('aria-selected'), { timeout: SEEN_MS }).toBe('true');
    await cell(page, source, first).click();
    expect(new URL(page.url()).searchParams.get('region')).toBe(first);
    await page.goBack();
    await expect.poll(() => cell(page, source, region).getAttribute('aria-selected')).toBe('true');
  });

  it('has no fault that axe knows of, in light and dark, wide and narrow', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [1280, 400]) {
        const { page, complaints } = await open(browser, main.page.url(), { colorScheme, viewport: { width, height: 860 } });
        await page.waitForSelector('[role=gridcell][data-state=ok]', { timeout: SEEN_MS });
        expect(await faults(page), `${colorScheme}, ${width} px`).toEqual([]);
        expect(await page.evaluate(() => document.documentElement.scrollWidth), 'nothing sticks out').toBeLessThanOrEqual(width);
        expect(complaints).toEqual([]);
        await page.context().close();
      }
    }
  });

  it('says that the collector is gone, keeps the last picture, and recovers by itself', async () => {
    const { page, complaints } = main;
    await page.evaluate(() => Object.assign(window, { thisVeryPage: true }));
    await world.killCollector();
    await mode(page, 'disconnected', SEEN_MS);
    expect(await news(page).textContent()).toBe('The collector does not answer.');
    expect(await page.getByText(/Below is the last picture, from/).isVisible()).toBe(true);
    expect(await page.locator('[role=gridcell][data-state=ok]').count()).toBeGreaterThan(0);
    expect(await faults(page)).toEqual([]);
    await world.startCollector();
    await mode(page, 'live', SEEN_MS);
    await news(page).getByText('All is well').waitFor({ timeout: MEASURED_MS });
    expect(await page.evaluate(() => 'thisVeryPage' in window), 'it was not loaded anew').toBe(true);
    expect(complaints).toEqual([]);
  });

  it('shows a region that dies in its cells, its health and the hints, and moves nothing', async () => {
    const { page } = main;
    const { sources, regions: [region = ''] } = await names(page);
    const place = () => page.getByRole('grid').boundingBox();
    const before = await place();
    await world.break({ kind: 'service_down', region, service: 'voice' });
    await news(page).getByText(`${region} voice is down`).waitFor({ timeout: SEEN_MS });
    for (const source of sources) await expect.poll(() => cell(page, source, region).getAttribute('data-state'), { timeout: SEEN_MS }).toBe('down');
    await page.getByRole('link', { name: new RegExp(`${region} voice down.*Layers: icmp ok`) }).waitFor({ timeout: SEEN_MS });
    await page.getByRole('row', { name: new RegExp(`^${region} ✕ down`) }).waitFor();
    await page.getByText(new RegExp(`Out\\..*${region}: `)).waitFor({ timeout: SEEN_MS });
    expect(await faults(page)).toEqual([]);
    expect(await place()).toEqual(before);
  });

  it('does not take old measurements for the present when the agents fall silent', async () => {
    await world.stopAgents();
    await mode(main.page, 'stale', MEASURED_MS);
    expect(await news(main.page).textContent()).toMatch(/^No fresh measurements since \d\d:\d\d:\d\d\.$/);
    expect(await faults(main.page)).toEqual([]);
  });
});
