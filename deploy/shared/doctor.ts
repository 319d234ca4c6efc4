/** Types for the findings of `medulla doctor`, as plain data; each fix is something to type, to write or to do. */

export type Severity = 'ok' | 'warning' | 'problem'

/** `run`: a command for a shell on the robot; `write`: a line for a file; `do`: work for a person. */
export type Fix = { readonly run: string } | { readonly write: string; readonly to: string } | { readonly do: string }

export interface Finding {
  /** A short noun, as `i2c`; several findings may have the same. */
  readonly about: string
  readonly severity: Severity
  readonly found: string
  /** Steps, in order. A problem has at least one. */
  readonly fix: readonly Fix[]
}

export interface DoctorReport {
  readonly host: string
  /** Model by the device tree, or else the architecture. */
  readonly machine: string
  /** The board file that was checked, or null. */
  readonly board: string | null
  readonly findings: readonly Finding[]
}
