/**
 * Whether the body does its duties, for the watchdog of systemd. Pure. Invariant: a body that works is never called sick for
 * what a program, the endpoint, the disk or the network does (HANDOVER 16.4; test/runtime/health.test.ts).
 */

/** How late each duty is, in ms: 0 is in time. */
export interface Duties {
  /** A silent endpoint should have been ended, or an ended one started again. */
  readonly endpointMs: number
  /** Slot to the time since which a silent program should have been ended. */
  readonly silentMs: ReadonlyMap<string, number>
}

/** Before MEDULLA_TIME_SCALE. Longer than HANDOVER 10.3 may put a deadline off, and than a busy disk delays a slot. */
const LATE_MS = 5000

/** What is overdue, in words; null: the body works. */
export function sickness({ endpointMs, silentMs }: Duties, scale: number): string | null {
  const late = LATE_MS * scale
  if (endpointMs > late) return `the endpoint is silent, and was not replaced for ${Math.round(endpointMs)} ms`
  for (const [slot, ms] of silentMs) {
    if (ms > late) return `the program in slot ${slot} is silent, and was not ended for ${Math.round(ms)} ms`
  }
  return null
}
