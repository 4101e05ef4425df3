// The choice, kept in the address bar. What is chosen on purpose can be taken back by the browser's back button; a cursor that
// moves from cell to cell only changes the address that stands there.

import { read, write, type Choice } from '../model/choice';

/** Browsers refuse more than a few changes of the address in a second. */
const SETTLE_MS = 150;

class Address {
  choice = $state.raw<Choice>(read(location.search));
  #settling: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    addEventListener('popstate', () => {
      clearTimeout(this.#settling);
      this.choice = read(location.search);
    });
  }

  /** Where a change leads: for links, which can also be opened elsewhere. */
  href = (change: Partial<Choice>): string => write({ ...this.choice, ...change });

  go(change: Partial<Choice>): void {
    clearTimeout(this.#settling);
    this.choice = { ...this.choice, ...change };
    const query = write(this.choice);
    if (query !== (location.search || '?')) history.pushState(null, '', query);
  }

  move(change: Partial<Choice>): void {
    this.choice = { ...this.choice, ...change };
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => history.replaceState(null, '', write(this.choice)), SETTLE_MS);
  }

  /** For a link: follows it here, unless the reader wants it elsewhere. */
  follow = (change: Partial<Choice>) => (event: MouseEvent) => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    this.go(change);
  };
}

export const address = new Address();
