/**
 * Invariant: what runs in the guest keeps what it has in one folder of this computer, made by the guest itself, so that it
 * goes on there the next time.
 *
 * `sim --kernel`: the robot side over a real Linux kernel with the hardware interfaces of a Pi 4, in QEMU. The rig that
 * boots it belongs to the tests and is no part of an installed package.
 */
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import { copyFile, mkdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { delimiter, join } from 'node:path'
import { DEFAULT_PORT } from '../api.ts'
import type { SignedCertificate } from '../cert.ts'
import { Refusal } from '../errors.ts'
import { PACKAGE, RIG, ROBOTS, RUNTIME } from './paths.ts'

const QEMU = 'qemu-system-x86_64'
const BOARD = join(ROBOTS, 'blink/board.pi4.json')
/** Every instruction is translated: about so much slower. */
const TIME_SCALE = 5
/** The rig wants an end; this one is in three weeks. */
const TIMEOUT_S = 2_000_000

export interface Guest {
  /** Ends with its child; stdout is that of the runtime. */
  readonly child: ChildProcess
  readonly port: number
  /** The robot's card; made at the first start, so not before the runtime listens. */
  card(): Promise<SignedCertificate>
}

export interface GuestOptions {
  name: string
  /** On 127.0.0.1; 0 is any. */
  port: number
  /** Copied; a board of a Pi 4 otherwise. */
  board: string | undefined
  /** Folder of this computer that the guest can write. */
  folder: string
  /** Card of whoever may push. */
  operator: string
}

/** Throws `not-found` where there is no rig or no QEMU, and `port-in-use`. `stderr` is for the rig and for the runtime. */
export async function startGuest(options: GuestOptions, stderr: number | 'inherit', keep: boolean): Promise<Guest> {
  const { folder, name } = options
  if (!existsSync(RIG)) {
    const hint = 'npm run build and npx medulla sim --kernel, in a clone of the repository; or medulla sim'
    throw new Refusal('not-found', 'this installation has no kernel to boot: --kernel works in a clone', hint)
  }
  if (!onPath(QEMU)) {
    const hint = `apt-get install --no-install-recommends $(node ${RIG} packages)`
    throw new Refusal('not-found', `there is no ${QEMU}`, hint)
  }
  const port = await freePort(options.port)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const [home, board, operator] = ['home', 'board.json', 'operator.json'].map((file) => join(folder, file))
  await copyFile(options.operator, operator as string)
  if (options.board !== undefined || !existsSync(board as string)) {
    await copyFile(options.board ?? BOARD, board as string)
  }
  const runtime = [process.execPath, RUNTIME]
  const trust = [...runtime, 'trust', '--home', home, '--card', operator, '--role', 'owner']
  const run = [...runtime, '--home', home, '--board', board, '--name', name, '--host', '0.0.0.0', '--json']
  // 9p has no sockets, and that one is of this boot only
  const sockets = join(home as string, 'standby')
  const mount = ['mount', '-t', 'tmpfs', '-o', 'mode=700', 'standby', sockets]
  const steps = [trust, ['mkdir', '-p', sockets], mount, ['exec', ...run, '--port', String(DEFAULT_PORT)]]
  const guest = ['sh', '-c', steps.map(quote).join(' && ')]
  const args = ['run', '--out', folder, '--forward', `${port}:${DEFAULT_PORT}`, '--timeout', String(TIMEOUT_S)]
  args.push('--env', `MEDULLA_TIME_SCALE=${TIME_SCALE}`, '--', ...guest)
  const child = spawn(process.execPath, [RIG, ...args], {
    cwd: join(PACKAGE, '..'),
    stdio: ['ignore', 'pipe', stderr],
    detached: keep,
  })
  const card = async () => JSON.parse(await readFile(join(home as string, 'robot.json'), 'utf8')) as SignedCertificate
  return { child, port, card }
}

/** For sh(1). */
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

/** QEMU would say it in words of its own, after the boot of the rig has begun. */
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
