// Preloaded into a runtime: while the file MEDULLA_TEST_FAULT exists, writes below MEDULLA_TEST_HOME fail with the code in it.
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

const { MEDULLA_TEST_FAULT: flag = '', MEDULLA_TEST_HOME: home = '' } = process.env
const { readFileSync, readlinkSync } = fs

function fault(path) {
  if (!String(path).startsWith(home)) return null
  try {
    const code = readFileSync(flag, 'utf8').trim()
    return Object.assign(new Error(`${code}: injected, ${path}`), { code })
  } catch {
    return null
  }
}

const ofFd = (fd) => {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return ''
  }
}
const changes = (flags) => typeof flags === 'string' && /[wa+]/.test(flags)

/** Throws the error, or passes it to a callback in the last argument. */
function wrap(target, name, where) {
  const real = target[name]
  target[name] = function (...args) {
    const error = fault(where.call(this, ...args))
    if (error === null) return real.apply(this, args)
    const last = args.at(-1)
    if (typeof last !== 'function') throw error
    setImmediate(last, error)
  }
}

/** The same for functions that return promises. */
function wrapAsync(target, name, where) {
  const real = target[name]
  target[name] = async function (...args) {
    const error = fault(where.call(this, ...args))
    if (error !== null) throw error
    return real.apply(this, args)
  }
}

for (const name of ['write', 'writeSync', 'fsync', 'fsyncSync', 'fdatasync', 'ftruncateSync']) wrap(fs, name, ofFd)
for (const name of ['writeFileSync', 'renameSync', 'mkdirSync', 'rmSync']) wrap(fs, name, (path) => path)
wrap(fs, 'openSync', (path, flags) => (changes(flags) ? path : ''))
const handle = await fs.promises.open('/dev/null', 'r')
for (const name of ['write', 'writeFile', 'appendFile', 'sync', 'datasync', 'truncate'])
  wrapAsync(Object.getPrototypeOf(handle), name, function () {
    return ofFd(this.fd)
  })
await handle.close()
for (const name of ['rename', 'mkdir', 'writeFile', 'unlink', 'rm']) wrapAsync(fs.promises, name, (path) => path)
wrapAsync(fs.promises, 'open', (path, flags) => (changes(flags) ? path : ''))
syncBuiltinESMExports()
