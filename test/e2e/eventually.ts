import { timeScale } from '../../deploy/shared/timescale.ts'

/** How much slower this machine is than those the times below were chosen on. */
export const SCALE = timeScale()

/** A look at /proc costs user-mode Linux 20 times what it costs here, and QEMU more: it is taken from the robot's time. */
const POLL_MS = ({ qemu: 50, uml: 20 }[process.env.MEDULLA_RIG_MACHINE ?? ''] ?? 5) * SCALE

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
