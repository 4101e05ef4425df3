import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

/** Where `npm run dev` finds a collector. */
const collector = process.env.ISOCHRONE_COLLECTOR ?? 'http://127.0.0.1:8460';

export default defineConfig({
  plugins: [svelte()],
  base: './',
  build: {
    target: 'es2023',
    // The page's policy forbids scripts, styles and images inside of the document: everything is a file of its own.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { '/api': collector, '/metrics': collector } },
  test: {
    projects: [
      { extends: true, test: { name: 'unit', include: ['src/**/*.test.ts'], environment: 'node' } },
      {
        test: {
          name: 'browser',
          include: ['tests/**/*.test.ts'],
          environment: 'node',
          testTimeout: 90_000,
          hookTimeout: 120_000,
          expect: { poll: { timeout: 20_000 } },
          // Worlds measure time; two at once would measure each other.
          fileParallelism: false,
        },
      },
    ],
  },
});
