import { timeScale } from '../../deploy/shared/timescale.ts'

/** How much slower this machine is than the one for which the times below were chosen. */
export const SCALE = timeScale()

/** Reading /proc takes 20 times as long in user-mode Linux, and longer in QEMU, time that the robot then lacks. */
const POLL_MS = ({ qemu: 50, uml: 20 }[process.env.MEDULLA_RIG_MACHINE ?? ''] ?? 5) * SCALE

/** Polls `probe` until it returns something other than false, null or undefined. For files and processes, which send no event. */
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
