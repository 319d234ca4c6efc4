/** Types for what `medulla install` and `medulla uninstall` change on a robot, as plain data. */
import type { Finding } from './doctor.ts'

/** `keep`: it is already as it should be. */
export type Change = 'make' | 'change' | 'remove' | 'keep'

export interface InstallStep {
  /** The short noun of the doctor's findings: `i2c`, `service`. */
  readonly about: readonly string[]
  /** As the robot sees the path, without --root. */
  readonly path: string
  readonly kind: 'folder' | 'file' | 'link' | 'operator'
  readonly change: Change
  /** Text of the file, target of the link; null: there is none. */
  readonly before: string | null
  readonly after: string | null
  /** Null: as it was. */
  readonly mode: number | null
  /** Changes how the computer starts: written only after a person has seen it. */
  readonly consent: boolean
  /** What it is for: a short sentence without a full stop. */
  readonly what: string
}

export interface InstallPlan {
  /** The folder below which everything is written; `/` is this computer. */
  readonly root: string
  readonly steps: readonly InstallStep[]
  /** The doctor's findings; none for another root. */
  readonly findings: readonly Finding[]
  /** Hash over the steps that need consent: `apply` writes them only when they are still these. */
  readonly agreement: string
  /** Whether systemd runs here, so that the service can be started. */
  readonly systemd: boolean
  /** Whether anybody may push to this robot. */
  readonly operators: number
  /** What a person should know beside the steps. */
  readonly notes: readonly string[]
}

export interface Applied {
  readonly applied: readonly { path: string; change: Change }[]
  /** Steps that nobody has agreed to. */
  readonly skipped: readonly string[]
  /** The text of the recovery key that was made with the first owner: it is shown once, and is in no file. */
  readonly recovery?: string
}
