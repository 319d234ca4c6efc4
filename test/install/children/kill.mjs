// Preloaded: the process is killed right before its n-th rename, as by a power cut.
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'

let left = Number(process.env.MEDULLA_TEST_KILL_AT)
const { renameSync } = fs
fs.renameSync = (from, to) => {
  if (--left === 0) process.kill(process.pid, 'SIGKILL')
  renameSync(from, to)
}
syncBuiltinESMExports()
