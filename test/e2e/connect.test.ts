/** deploy/CONNECT.md is a transcript of two computers: every command is run there, and must print what the page shows. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { differs, plain, stepsOfTwo } from '../deploy/laptop/cli/console.ts'
import { ROOT, text } from '../project/tree.ts'
import { eventually, SCALE } from './eventually.ts'
import { RUNTIME } from './programs.ts'
import { type HostName, twoHosts } from './twohosts.ts'

const SLOW = { tags: ['slow'], timeout: 600_000 * SCALE }
const FILE = 'deploy/CONNECT.md'

const folder = mkdtempSync(join(tmpdir(), 'medulla-connect-'))
const hosts = await twoHosts(folder)
const where = hosts === null ? ' (needs Linux, root, ip, unshare, nsenter, script and pkill)' : ''
/** The log of the robot that runs. */
let log = ''

const shell = async (host: HostName, command: string): Promise<string> =>
  (await hosts?.run(host, command))?.join('\n') ?? ''

/** Lines of the followed log; NaN before it is there. */
const count = async (): Promise<number> => Number(await shell('laptop', 'grep -c step log.txt'))

/** As the service starts it, over simulated pins. */
async function startRobot(): Promise<void> {
  log = ''
  await shell('rover', `cp '${join(ROOT, 'robots/template/board.json')}' /var/lib/medulla/board.json`)
  const words = [
    process.execPath,
    RUNTIME,
    '--home',
    '/var/lib/medulla',
    '--host',
    '0.0.0.0',
    '--sim',
    '--name',
    'rover',
  ]
  const child = hosts?.start('rover', `exec ${words.map((word) => `'${word}'`).join(' ')}`)
  for (const stream of [child?.stdout, child?.stderr]) {
    stream?.setEncoding('utf8').on('data', (more: string) => {
      log += more
    })
  }
  await eventually(() => log.includes('"msg":"listening"') && log.includes('"event":"listening"'))
}

beforeAll(async () => {
  if (hosts !== null) await startRobot()
}, 120_000 * SCALE)
afterAll(async () => {
  await hosts?.close()
  rmSync(folder, { recursive: true, force: true, maxRetries: 20 })
})

/** The code that the robot shows now, or a wrong one. */
function codeFor(expected: readonly string[]): string {
  const [, first = '', second = ''] = [...log.matchAll(/pairing code of rover: (\d{4}) (\d{4})/g)].at(-1) ?? []
  const code = first + second
  return expected.some((line) => line.includes('is wrong'))
    ? String((Number(code) + 1) % 10 ** 8).padStart(8, '0')
    : code
}

/** What happens between the commands of a section. */
const BEFORE: Readonly<Record<string, () => Promise<void>>> = {
  'Push, and follow the log': async () => {
    const [, program = ''] = /^```ts\n(.*?)^```$/ms.exec(text(FILE)) ?? []
    await shell('laptop', `mkdir count && cat > count/program.ts <<'END'\n${program}END`)
  },
  'A connection that is lost': async () => {
    await eventually(async () => (await count()) > 3)
  },
  'Another key': async () => {
    await shell('rover', "pkill -f '^[^ ]*node .*runtime/main[.]js'")
    await eventually(async () => (await shell('rover', "pgrep -f '[r]untime/main[.]js'")).trim() === '')
    await shell('rover', 'find /var/lib/medulla -mindepth 1 -delete')
    await startRobot()
  },
}

test.runIf(hosts)(
  `CHANNEL 11.7, 10.5, 3.9: the commands of "Find, pair, stay connected" print what ${FILE} shows${where}`,
  SLOW,
  async () => {
    const steps = stepsOfTwo(FILE)
    expect(steps.length).toBeGreaterThan(12)
    let section = ''
    for (const step of steps) {
      if (step.section !== section) await BEFORE[step.section]?.()
      section = step.section
      const { host, command, expected } = step
      if (command.endsWith('&')) {
        hosts?.start(host, command.slice(0, -1))
        continue
      }
      let shown = ''
      const attempt = async (): Promise<string | null> => {
        const typed = { '(not shown): ': codeFor(expected) }
        const lines = (await hosts?.run(host, command, typed)) ?? []
        shown = lines.join('\n')
        return differs(
          expected,
          lines.map((line) => plain(line, '~')).filter((line) => line !== ''),
        )
      }
      // A command that only looks may come a moment too early.
      const looks = /^(?:grep|medulla (?:status|robots))\b/.test(command)
      let difference = await attempt()
      if (looks && difference !== null) {
        const began = performance.now()
        while (difference !== null && performance.now() - began < 30_000 * SCALE) difference = await attempt()
      }
      expect(difference, `${host}: ${command}\n${shown}`).toBe(null)
      if (command.startsWith('grep -v step')) {
        // what follows looks at the lines from after the loss
        const lines = await count()
        await eventually(async () => (await count()) > lines + 3)
      }
    }
  },
)
