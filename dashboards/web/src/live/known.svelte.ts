// What is known now, as the components read it: the stream folded, and a clock that ticks.

import { follow } from './follow';
import { modeOf, type Known } from '../model/mode';
import { BLANK, fold, TOPICS } from '../model/picture';

/** A page that nobody has seen for so long lets go of its stream. */
const UNSEEN_MS = 60_000;

class Live {
  known = $state.raw<Known>({ picture: BLANK, line: { is: 'connecting' }, clock: null, heard: null });
  /** Monotonic, in ms. */
  now = $state(performance.now());
  /** The same, for what need not move more often. */
  second = $derived(Math.floor(this.now / 1000) * 1000);
  mode = $derived(modeOf(this.known, this.now));

  start(): void {
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    setInterval(() => (this.now = performance.now()), calm ? 1000 : 200);
    let end = this.#follow();
    let unseen: ReturnType<typeof setTimeout> | undefined;
    document.addEventListener('visibilitychange', () => {
      clearTimeout(unseen);
      if (document.hidden) unseen = setTimeout(() => end.abort(), UNSEEN_MS);
      else if (end.signal.aborted) end = this.#follow();
    });
  }

  #follow(): AbortController {
    const end = new AbortController();
    void follow(`api/v1/stream?topics=${TOPICS.join(',')}`, {
      line: line => (this.known = { ...this.known, line }),
      heard: (topic, event, date) => {
        const heard = performance.now();
        const picture = fold(this.known.picture, topic, event);
        this.known = { ...this.known, picture, heard, clock: event.number === 1 ? clockAt(date ?? Date.parse(event.as_of), Date.parse(event.as_of), heard) : this.known.clock };
        this.now = heard;
      },
    }, end.signal);
    return end;
  }
}

/** The header's date is cut to the second, so the event's own time may be ahead of it. */
const clockAt = (date: number, asOf: number, now: number) => ({ offset: Math.max(date, asOf) - now });

export const live = new Live();
