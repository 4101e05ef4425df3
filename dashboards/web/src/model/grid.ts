// Where the cursor of the matrix goes. Pure: a place and a key in, a place out.

export interface Place {
  row: number;
  /** −1 is the row's head. */
  column: number;
}

const PAGE = 5;

/** `null`: the key moves nothing. */
export function step(at: Place, key: string, far: boolean, rows: number, columns: number): Place | null {
  const to = move(at, key, far);
  return to && { row: clamp(to.row, 0, rows - 1), column: clamp(to.column, -1, columns - 1) };
}

function move({ row, column }: Place, key: string, far: boolean): Place | null {
  switch (key) {
    case 'ArrowUp': return { row: row - 1, column };
    case 'ArrowDown': return { row: row + 1, column };
    case 'ArrowLeft': return { row, column: column - 1 };
    case 'ArrowRight': return { row, column: column + 1 };
    case 'PageUp': return { row: row - PAGE, column };
    case 'PageDown': return { row: row + PAGE, column };
    case 'Home': return { row: far ? 0 : row, column: -1 };
    case 'End': return { row: far ? Infinity : row, column: Infinity };
    default: return null;
  }
}

const clamp = (value: number, least: number, most: number) => Math.min(most, Math.max(least, value));
