import type { Position } from './json.ts'

/** How hardware can fail. The set is closed, so that programs can test for each kind (HANDLES 2). */
export type HardwareErrorKind = 'no-device' | 'no-ack' | 'bus' | 'busy' | 'revoked' | 'unsupported' | 'other'

/** A failure of a handle or a backend. `cause` is the original error, if there was one. */
export class HardwareError extends Error {
  readonly kind: HardwareErrorKind
  constructor(kind: HardwareErrorKind, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'HardwareError'
    this.kind = kind
  }
}

/** A mistake in a board file, with its position and a suggested fix. */
export class BoardError extends Error {
  readonly file: string
  /** Path of the value inside the file, as `handles.led.kind`; empty when the file is not valid JSON. */
  readonly place: string
  /** The message without the file and the path. */
  readonly why: string
  readonly fix: string
  readonly at: Position | undefined
  constructor(file: string, place: string, why: string, fix: string, at?: Position) {
    super([at === undefined ? file : `${file}:${at.line}:${at.column}`, place, why].filter(Boolean).join(': '))
    this.name = 'BoardError'
    this.file = file
    this.place = place
    this.why = why
    this.fix = fix
    this.at = at
  }
}

const KIND_OF_ERRNO: Record<string, HardwareErrorKind> = {
  EAGAIN: 'busy',
  EBUSY: 'busy',
  EPIPE: 'no-device',
  ECONNRESET: 'no-device',
  ENODEV: 'no-device',
  ENOENT: 'no-device',
  EBADF: 'no-device',
  ENXIO: 'no-ack',
  EREMOTEIO: 'no-ack',
  EIO: 'bus',
  ETIMEDOUT: 'bus',
}

/** The HardwareError for a failed system call on the handle `name` (HANDLES 2.3). A HardwareError passes through. */
export function hardwareFault(name: string, cause: unknown): HardwareError {
  if (cause instanceof HardwareError) return cause
  const code = (cause as { code?: unknown } | null)?.code
  const kind = typeof code === 'string' ? (KIND_OF_ERRNO[code] ?? 'other') : 'other'
  return new HardwareError(kind, `${name}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
}
