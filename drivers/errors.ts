import type { Position } from './json.ts'

/** The closed set of ways hardware fails (HANDLES 2). */
export type HardwareErrorKind = 'no-device' | 'no-ack' | 'bus' | 'busy' | 'revoked' | 'unsupported' | 'other'

/** Any failure of a handle or a backend. The original error, where there is one, is the `cause`. */
export class HardwareError extends Error {
  readonly kind: HardwareErrorKind
  constructor(kind: HardwareErrorKind, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'HardwareError'
    this.kind = kind
  }
}

/** A mistake in a board file: where it is and what to write instead. */
export class BoardError extends Error {
  readonly file: string
  /** Path inside the file, as `handles.led.kind`; empty where it could not be read so far. */
  readonly place: string
  /** The message without file and place. */
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

/** HANDLES 2.3: what a failed system call on the handle `name` means. A HardwareError passes through. */
export function hardwareFault(name: string, cause: unknown): HardwareError {
  if (cause instanceof HardwareError) return cause
  const code = (cause as { code?: unknown } | null)?.code
  const kind = typeof code === 'string' ? (KIND_OF_ERRNO[code] ?? 'other') : 'other'
  return new HardwareError(kind, `${name}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
}
