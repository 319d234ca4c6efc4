/**
 * `sim --kernel`: the robot side over a real Linux kernel with the hardware interfaces of a Pi 4. The rig in test/kernel/
 * boots the kernel, so this needs a clone of the repository. The rig starts user-mode Linux if it has a kernel for that, else
 * QEMU. The robot's files are in a folder of this computer, so that the next start continues with them.
 */
import type { ChildProcess } from 'node:child_process'
import { spawn, spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import { copyFile, mkdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { DEFAULT_PORT } from '../../shared/api.ts'
import type { SignedCertificate } from '../../shared/cert.ts'
import { Refusal } from '../../shared/errors.ts'
import { PACKAGE, RIG, ROBOTS, RUNTIME } from './paths.ts'

/** Machines by their names in rig.mjs: the command that each needs, how many times slower than a Pi it is, its time to boot. */
const MACHINES = {
  uml: { title: 'user-mode Linux', command: 'bwrap', timeScale: 3, bootSeconds: 5 },
  qemu: { title: 'Linux in QEMU', command: 'qemu-system-x86_64', timeScale: 5, bootSeconds: 20 },
}

const BOARD = join(ROBOTS, 'blink/board.pi4.json')
/** The rig needs a limit: three weeks. */
const TIMEOUT_S = 2_000_000

export interface Guest {
  /** The rig's process: it ends when the guest ends, and its stdout is the runtime's. */
  readonly child: ChildProcess
  readonly port: number
  /** Progress text for the time until the runtime listens. */
  readonly booting: string
  /** The robot's card. The first start makes it, so call this only when the runtime listens. */
  card(): Promise<SignedCertificate>
}

export interface GuestOptions {
  name: string
  /** On 127.0.0.1; 0 is any. */
  port: number
  /** Board file to copy into the folder; default: the last one, at first a board of a Pi 4. */
  board: string | undefined
  /** Folder of this computer that the guest can write. */
  folder: string
  /** File with the card of the operator who becomes owner. */
  operator: string
}

/** `stderr` is for rig and runtime. Throws `not-found` if the rig or the machine's command is missing, and `port-in-use`. */
export async function startGuest(options: GuestOptions, stderr: number | 'inherit', keep: boolean): Promise<Guest> {
  const { folder, name } = options
  if (!existsSync(RIG)) {
    const hint = 'npm run build and npx medulla sim --kernel, in a clone of the repository; or medulla sim'
    throw new Refusal('not-found', 'this installation has no kernel to boot: --kernel works in a clone', hint)
  }
  const machine = chosenMachine()
  const { title, command, timeScale, bootSeconds } = MACHINES[machine]
  if (!onPath(command)) {
    const hint = `apt-get install --no-install-recommends $(node ${RIG} packages)`
    throw new Refusal('not-found', `${title} needs the command ${command}, which is not installed`, hint)
  }
  const port = await freePort(options.port)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const [home, board, operator] = ['home', 'board.json', 'operator.json'].map((file) => join(folder, file))
  await copyFile(options.operator, operator as string)
  if (options.board !== undefined || !existsSync(board as string)) {
    await copyFile(options.board ?? BOARD, board as string)
  }
  const runtime = [process.execPath, RUNTIME]
  const make = [...runtime, 'card', '--home', home, '--name', name]
  const trust = [...runtime, 'trust', '--home', home, '--card', operator, '--role', 'owner']
  const run = [...runtime, '--home', home, '--board', board, '--name', name, '--host', '0.0.0.0', '--json']
  // A shared folder cannot hold the guest's Unix sockets, and the guard needs its socket for this boot only: a tmpfs.
  const sockets = join(home as string, 'guard')
  const mount = ['mount', '-t', 'tmpfs', '-o', 'mode=700', 'guard', sockets]
  const steps = [make, trust, ['mkdir', '-p', sockets], mount, ['exec', ...run, '--port', String(DEFAULT_PORT)]]
  const guest = ['sh', '-c', steps.map(quote).join(' && ')]
  const args = [
    'run',
    '--machine',
    machine,
    '--out',
    folder,
    '--forward',
    `${port}:${DEFAULT_PORT}`,
    '--timeout',
    String(TIMEOUT_S),
  ]
  args.push('--env', `MEDULLA_TIME_SCALE=${timeScale}`, '--', ...guest)
  const child = spawn(process.execPath, [RIG, ...args], {
    cwd: join(PACKAGE, '..'),
    stdio: ['ignore', 'pipe', stderr],
    detached: keep,
  })
  const card = async () => JSON.parse(await readFile(join(home as string, 'robot.json'), 'utf8')) as SignedCertificate
  return { child, port, card, booting: `booting ${title}; this takes about ${bootSeconds} s` }
}

function chosenMachine(): keyof typeof MACHINES {
  const { stdout } = spawnSync(process.execPath, [RIG, 'which'], { encoding: 'utf8' })
  return stdout.trim() === 'uml' ? 'uml' : 'qemu'
}

/** The words as one command line for sh(1). */
function quote(words: readonly (string | undefined)[]): string {
  return words.map((word = '') => `'${word.replaceAll("'", `'\\''`)}'`).join(' ')
}

function onPath(command: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Checks the port before the boot starts: the rig would report a used port later, and less clearly. */
async function freePort(wanted: number): Promise<number> {
  const server = createServer()
  const got = await new Promise<number>((resolve, reject) => {
    server.once('error', (cause) => {
      const message = `port ${wanted} is in use on this computer`
      reject(new Refusal('port-in-use', message, 'medulla sim --kernel --port 0', { cause }))
    })
    server.listen(wanted, '127.0.0.1', () => resolve((server.address() as { port: number }).port))
  })
  await new Promise((resolve) => server.close(resolve))
  return got
}
