/** Cuts UTF-8 text that comes in pieces into lines. */
import { StringDecoder } from 'node:string_decoder'

export class LineSplitter {
  readonly #decoder = new StringDecoder('utf8')
  /** What came after the last newline. The caller limits its length, and may drop it. */
  rest = ''

  /** The lines that end in `piece`, without their newlines. A character may be divided between two pieces. */
  push(piece: Uint8Array | string): string[] {
    const lines = (this.rest + this.#decoder.write(piece)).split('\n')
    this.rest = lines.pop() ?? ''
    return lines
  }
}
