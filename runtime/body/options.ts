import type { MinimalMode } from '../../deploy/shared/api.ts'
import type { Sandbox } from './sandbox/sandboxes.ts'
import type { ListeningSocket } from './service/environment.ts'

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
  /** Files for the code of a pairing window, in words for people: on the boot partition, for example. */
  pairingFiles?: readonly string[]
  /** From systemd, instead of `host` and `port`. */
  listener?: ListeningSocket
  /** From systemd: the descriptor of the discovery socket. */
  discovery?: number
  version: string
  /** The folder of the base install; absent: this is the base install. */
  base?: string
  /** Absent: programs are started. */
  minimal?: MinimalMode
}
