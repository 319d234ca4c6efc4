import type { Sandbox } from './sandbox/sandboxes.ts'

/** The options of the runtime, as main.ts parses them. */
export interface BodyOptions {
  home: string
  /** A simulated board: this machine's hardware is not touched. */
  sim: boolean
  host: string
  port: number
  name?: string
  /** The board file; default: board.json in the home. */
  board?: string
  /** A file for every change of a simulated pin, as NDJSON. */
  trace?: string
  /** How programs are confined; default: as the board needs it (HANDLES 13.1). */
  sandbox?: Sandbox
  version: string
}
