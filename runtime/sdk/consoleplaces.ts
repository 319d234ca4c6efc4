/** Makes `console` print the places of errors as those in the author's files (BUNDLE 11.9). */
import { format } from 'node:util'

/** `trace` and `assert` of Node print through `error` and `warn`. */
const METHODS = ['log', 'info', 'debug', 'warn', 'error'] as const

/** To be called before the gate is installed: what a rehearsal prints is dropped, so it must not be formatted. */
export function mapConsole(places: (text: string) => string): void {
  for (const name of METHODS) {
    const print = console[name]
    console[name] = (...values: unknown[]) => print(places(format(...values)))
  }
}
