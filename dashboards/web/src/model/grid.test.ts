import { expect, it } from 'vitest';
import { step } from './grid';

it('moves the cursor within the grid, its heads included, and never out of it', () => {
  const go = (key: string, row: number, column: number, far = false) => {
    const to = step({ row, column }, key, far, 20, 14);
    return to && [to.row, to.column];
  };
  expect(go('ArrowRight', 3, -1)).toEqual([3, 0]);
  expect(go('ArrowLeft', 3, -1)).toEqual([3, -1]);
  expect(go('ArrowDown', 19, 2)).toEqual([19, 2]);
  expect(go('PageUp', 3, 2)).toEqual([0, 2]);
  expect(go('End', 3, 2)).toEqual([3, 13]);
  expect(go('End', 3, 2, true)).toEqual([19, 13]);
  expect(go('Home', 3, 2, true)).toEqual([0, -1]);
  expect(go('x', 3, 2)).toBe(null);
});
