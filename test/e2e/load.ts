/** Length of the computation, in ms of processor time: many scheduler slices, so that load on the machine shows. */
const WORK_MS = 50
/** Limit of the factor: a bound that is stretched further proves nothing. */
const MOST = 4

/**
 * How many times longer a computation takes at this moment than on a free processor: 1 on an idle machine,
 * 2 when this process gets half of the slices, at most 4. A test multiplies a bound of a spec by the load measured meanwhile.
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
