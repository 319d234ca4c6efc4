/** The commands of systemd that make an installation take effect. */
import { spawnSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { DEFAULT_PORT } from '../../shared/api.ts'
import { Refusal } from '../../shared/errors.ts'
import { greet } from '../client.ts'

export const UNIT = 'medulla.service'
const SOCKET = 'medulla.socket'
/** Longer than TimeoutStartSec= of the unit, which the runtime may extend. ms */
const START_MS = 900_000
/** The endpoint may be starting again. ms */
const ANSWER_MS = 30_000

interface Ran {
  readonly ok: boolean
  /** The last line of what it said. */
  readonly said: string
}

function run(command: string, ...args: string[]): Ran {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', timeout: START_MS })
  if (error !== undefined) return { ok: false, said: error.message }
  return { ok: status === 0, said: `${stdout}${stderr}`.trim().split('\n').at(-1) ?? '' }
}

/** Groups, udev and systemd read their new files. What fails here is mended by the next boot. */
export function reload(): void {
  run('systemd-sysusers')
  run('systemctl', 'daemon-reload')
  run('udevadm', 'control', '--reload')
  run('udevadm', 'trigger', '--subsystem-match=gpio', '--subsystem-match=i2c-dev', '--subsystem-match=spidev', '--subsystem-match=pwm') // biome-ignore format: one call
}

/** Throws Refusal `not-running` when the service does not come up. */
export function start(how: 'start' | 'restart'): void {
  const { ok, said } = run('systemctl', how, UNIT)
  if (!ok) throw new Refusal('not-running', `the service does not start: ${said}`, `journalctl -u ${UNIT} -p err -e`)
}

/** Throws Refusal `not-running` when a unit that is there does not stop. */
export function stop(): void {
  if (run('systemctl', 'cat', UNIT).ok) {
    const { ok, said } = run('systemctl', 'stop', SOCKET, UNIT)
    if (!ok) throw new Refusal('not-running', `the service does not stop: ${said}`, `systemctl status ${UNIT}`)
  }
}

/** What the robot on this computer tells everybody. Throws Refusal `unreachable`. */
export async function answer(): Promise<Awaited<ReturnType<typeof greet>>> {
  const until = performance.now() + ANSWER_MS
  for (;;) {
    try {
      return await greet('127.0.0.1', DEFAULT_PORT)
    } catch (error) {
      if (performance.now() > until) throw error
      await sleep(200)
    }
  }
}
