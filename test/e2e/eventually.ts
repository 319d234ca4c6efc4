/** How much slower this machine is than those the times below were chosen on. */
export const SCALE = Number(process.env.MEDULLA_TIME_SCALE) || 1

/** An emulated processor has no time for questions. */
const POLL_MS = process.env.MEDULLA_RIG_MACHINE === 'qemu' ? 50 * SCALE : 5 * SCALE

/** The first answer of `probe` that is not false, null or undefined. For what sends no event: files and processes. */
export async function eventually<T>(
  probe: () => T | false | null | undefined | Promise<T | false | null | undefined>,
  ms = 30_000 * SCALE,
): Promise<T> {
  const until = performance.now() + ms
  for (;;) {
    const answer = await probe()
    if (answer !== false && answer !== null && answer !== undefined) return answer
    if (performance.now() > until) throw new Error(`it did not happen in ${ms} ms: ${probe.toString().slice(0, 200)}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
