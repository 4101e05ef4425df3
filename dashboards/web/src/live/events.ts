// Reads server-sent events out of text that comes in pieces. Pure: pieces in, events out.

export interface TextEvent {
  name: string;
  data: string;
}

export class EventReader {
  #rest = '';

  /** The events that this piece completes. */
  push(piece: string): TextEvent[] {
    this.#rest += piece.replaceAll('\r', '');
    const blocks = this.#rest.split('\n\n');
    this.#rest = blocks.pop() ?? '';
    return blocks.map(parse).filter(event => event.data !== '');
  }
}

function parse(block: string): TextEvent {
  const event = { name: 'message', data: [] as string[] };
  for (const line of block.split('\n')) {
    const [, field, value = ''] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (field === 'event') event.name = value;
    if (field === 'data') event.data.push(value);
  }
  return { name: event.name, data: event.data.join('\n') };
}
