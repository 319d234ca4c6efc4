import type { LeftProcess } from './process.ts'
import type { SavedSandbox } from './sandboxes.ts'

/** A child that goes on while the runtime is replaced (HANDOVER 18). */
export interface SavedChild {
  readonly process: LeftProcess
  readonly folder: string
  readonly sandbox: SavedSandbox
  readonly fence: number
  /** Config values, to be masked in what it prints. */
  readonly config: Readonly<Record<string, string>>
  /** What was read of its pipes, and is not handled yet. */
  readonly unread: {
    readonly stdout: string
    readonly stderr: string
    readonly control: string
    readonly broker: Uint8Array
  }
}
