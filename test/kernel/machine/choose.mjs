/** Chooses the machine that the rig boots: user-mode Linux if there is a kernel for it, else QEMU. */
import { accessSync, constants, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { BuildError } from '../../../pi-image/tools/error.mjs'
import { cacheFolder, key, wholeOrNot } from '../../../pi-image/tools/exec.mjs'
import { qemu } from './qemu.mjs'
import { buildQemuImage } from './qemu-image.mjs'
import { uml } from './uml.mjs'
import { builtKernel } from './uml-kernel.mjs'

/**
 * @typedef {{ stdout(bytes: Buffer): void, stderr(bytes: Buffer): void, status(bytes: Buffer): void }} Take
 * @typedef {{ ended: Promise<unknown>, kill(): void, evidence(): Promise<string> }} Guest
 * @typedef {{ name: string, start(what: object, take: Take): Promise<Guest> }} Machine
 */

/** How a file begins that gzip has made, and one that is a program. */
const GZIP = Buffer.from([0x1f, 0x8b])
const ELF = Buffer.from('\x7fELF')

const OTHER_KERNEL = 'unset it to use another kernel'

export const MACHINES = { uml, qemu }

/**
 * @param {{ [name: string]: string | undefined }} env MEDULLA_RIG_KERNEL names a user-mode kernel, also one compressed by
 *   gzip, with its modules in `initrd.gz` beside it
 * @returns {'uml' | 'qemu'}
 */
export function chooseMachine(env) {
  // In the guest the host's files keep their owners, and a robot needs some that belong to root.
  if (process.getuid() !== 0) return 'qemu'
  return env.MEDULLA_RIG_KERNEL || builtKernel() !== undefined ? 'uml' : 'qemu'
}

/**
 * The files that a machine boots; they are made now if that takes only seconds.
 *
 * @param {'uml' | 'qemu'} name
 * @returns {Promise<{ kernel: string, initrd: string }>}
 * @throws {BuildError} when there are none, with what to do
 */
export async function imageOf(name, env, say) {
  if (name === 'qemu') return buildQemuImage(say)
  if (env.MEDULLA_RIG_KERNEL) return givenKernel(resolve(env.MEDULLA_RIG_KERNEL))
  const built = builtKernel()
  if (built !== undefined) return built
  throw new BuildError('there is no user-mode kernel', 'npm run test:kernel -- --build, or MEDULLA_RIG_KERNEL=FILE')
}

async function givenKernel(path) {
  const initrd = join(dirname(path), 'initrd.gz')
  for (const file of [path, initrd]) {
    if (!existsSync(file)) throw new BuildError(`MEDULLA_RIG_KERNEL: there is no ${file}`, OTHER_KERNEL)
  }
  const bytes = readKernel(path)
  if (bytes.subarray(0, GZIP.length).compare(GZIP) !== 0) {
    checkKernel(path, bytes)
    if (!isExecutable(path)) throw new BuildError(`MEDULLA_RIG_KERNEL: ${path} is not executable`, `chmod +x ${path}`)
    return { kernel: path, initrd }
  }
  const { size, mtimeMs } = statSync(path)
  const folder = join(cacheFolder('medulla-rig'), `given-${key([path, String(size), String(mtimeMs)])}`)
  await wholeOrNot(folder, (beside) => {
    const kernel = unpacked(path, bytes)
    checkKernel(path, kernel)
    writeFileSync(join(beside, 'linux'), kernel, { mode: 0o755 })
  })
  return { kernel: join(folder, 'linux'), initrd }
}

function readKernel(path) {
  if (!statSync(path).isFile()) throw new BuildError(`MEDULLA_RIG_KERNEL: ${path} is not a file`, OTHER_KERNEL)
  return readFileSync(path)
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function checkKernel(path, bytes) {
  if (bytes.subarray(0, ELF.length).compare(ELF) === 0) return
  throw new BuildError(`MEDULLA_RIG_KERNEL: ${path} is not a user-mode kernel, which is a program`, OTHER_KERNEL)
}

function unpacked(path, bytes) {
  try {
    return gunzipSync(bytes)
  } catch (error) {
    throw new BuildError(`MEDULLA_RIG_KERNEL: ${path} cannot be unpacked: ${error.message}`, 'copy it again')
  }
}
