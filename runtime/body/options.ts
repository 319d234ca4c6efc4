import type { Sandbox } from './sandbox/sandboxes.ts'

/** What the runtime is started with; main.ts parses it. */
export interface BodyOptions {
  home: string
  /** simulated board: nothing of this machine's hardware is touched */
  sim: boolean
  host: string
  port: number
  name?: string
  /** board file; board.json in the home otherwise */
  board?: string
  /** NDJSON of every change of a simulated pin */
  trace?: string
  /** how programs are confined; the board says when nothing is given here (HANDLES 13.1) */
  sandbox?: Sandbox
  version: string
}
