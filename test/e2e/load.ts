/** ms of processor time: many turns of the scheduler, so that a busy machine shows. */
const WORK_MS = 50
/** A bound that is stretched further says nothing any more. */
const MOST = 4

/**
 * How many times longer a computation takes at this moment than it would with a processor of its own: 1 on a free machine,
 * 2 when this process gets every other turn, at most 4. A test multiplies a bound of a spec by the load that it measured beside.
 */
export function load(): number {
  const [began, before] = [performance.now(), process.cpuUsage()]
  for (;;) {
    for (let i = 0; i < 100_000; i++);
    const { user, system } = process.cpuUsage(before)
    const usedMs = (user + system) / 1000
    if (usedMs >= WORK_MS) return Math.min(MOST, Math.max(1, (performance.now() - began) / usedMs))
  }
}
