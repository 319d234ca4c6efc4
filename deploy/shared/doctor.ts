/** Invariant: what the doctor found is plain data, with every fix as something to type or to write. */

export type Severity = 'ok' | 'warning' | 'problem'

/** A command for a shell on the robot, a line for a file, or what no computer can do. */
export type Fix = { readonly run: string } | { readonly write: string; readonly to: string } | { readonly do: string }

export interface Finding {
  /** A short noun, as `i2c`; the same one may come more than once. */
  readonly about: string
  readonly severity: Severity
  readonly found: string
  /** Steps, in order. A problem has at least one. */
  readonly fix: readonly Fix[]
}

export interface DoctorReport {
  readonly host: string
  /** What the device tree, or else the architecture, says that this is. */
  readonly machine: string
  /** The board file that was looked at, or null. */
  readonly board: string | null
  readonly findings: readonly Finding[]
}
