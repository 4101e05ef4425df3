// What the collector says. The types are made from its OpenAPI document; `npm run types` makes them.

import type { components } from '../api';

type Schemas = components['schemas'];

export type CellState = Schemas['CellState'];
export type Health = Schemas['Health'];
export type Region = Schemas['Region'];
export type Cell = Schemas['Cell'];
export type Hint = Schemas['Hint'];
export type Ranked = Schemas['Ranked'];
export type Agent = Schemas['Agent'];
export type Path = Schemas['Path'];
export type Matrix = Schemas['Matrix'];
/** An event of the stream. Its name is its topic, which says what its items are. */
export type StreamEvent = Omit<Schemas['StreamEvent'], 'items'> & { items: unknown[] };
export interface List<T> {
  items: T[];
  as_of: string;
}
