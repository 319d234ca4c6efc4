/** QEMU 9 or newer, which has the I2C controllers of a Pi 3: this computer's, or that of Debian 13, unpacked into the cache. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
const SOURCE = `deb [signed-by=${KEYRING}] http://deb.debian.org/debian trixie main`
const FOLDER = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'medulla/qemu-trixie')

export interface Command {
  file: string
  args: string[]
  env: NodeJS.ProcessEnv
}

export function qemu(): Command {
  const installed = 'qemu-system-aarch64'
  const { stdout } = spawnSync(installed, ['--version'], { encoding: 'utf8' })
  if (Number(/version (\d+)/.exec(stdout ?? '')?.[1]) >= 9) return { file: installed, args: [], env: process.env }
  if (!existsSync(FOLDER)) unpack()
  const inside = (path: string) => join(FOLDER, path)
  const libraries = [inside('usr/lib/x86_64-linux-gnu'), inside('usr/lib/x86_64-linux-gnu/pulseaudio')]
  return {
    // a newer C library than this computer's, so its own loader starts it
    file: inside('usr/lib64/ld-linux-x86-64.so.2'),
    args: [
      ...['--library-path', libraries.join(':'), inside('usr/bin/qemu-system-aarch64')],
      ...['usr/share/qemu', 'usr/lib/ipxe/qemu'].flatMap((path) => ['-L', inside(path)]),
    ],
    // else it loads the modules of this computer's QEMU
    env: { ...process.env, QEMU_MODULE_DIR: inside('usr/lib/x86_64-linux-gnu/qemu') },
  }
}

function unpack(): void {
  const beside = `${FOLDER}.${process.pid}`
  mkdirSync(dirname(FOLDER), { recursive: true })
  const packages = '--include=qemu-system-arm,ipxe-qemu'
  try {
    execFileSync('mmdebstrap', ['--mode=root', '--variant=extract', packages, 'trixie', beside, SOURCE], {
      stdio: 'pipe',
    })
    renameSync(beside, FOLDER)
  } finally {
    rmSync(beside, { recursive: true, force: true })
  }
}
