// Preloaded into a runtime: SIGUSR2 blocks its event loop while the file MEDULLA_TEST_BLOCKED exists; MEDULLA_TEST_NO_KOFFI takes koffi away.
import { existsSync, writeSync } from 'node:fs'
import Module from 'node:module'

const { MEDULLA_TEST_BLOCKED, MEDULLA_TEST_NO_KOFFI } = process.env
if (MEDULLA_TEST_BLOCKED !== undefined) {
  const never = new Int32Array(new SharedArrayBuffer(4))
  process.on('SIGUSR2', () => {
    writeSync(2, 'the event loop is blocked\n')
    while (existsSync(MEDULLA_TEST_BLOCKED)) Atomics.wait(never, 0, 0, 20)
  })
}
if (MEDULLA_TEST_NO_KOFFI !== undefined) {
  const load = Module._load
  Module._load = function (request, ...rest) {
    if (!/koffi/.test(request)) return load.call(this, request, ...rest)
    throw Object.assign(new Error(`Cannot find module '${request}'`), { code: 'MODULE_NOT_FOUND' })
  }
}
