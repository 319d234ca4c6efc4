/** Takes what systemd gave to this process, and prints it; then gives it back, and prints what a runtime after it gets. */
import { readdirSync, readlinkSync } from 'node:fs'
import { restoreEnvironment, takeEnvironment } from '../../../../../runtime/body/service/environment.ts'

const sockets = (): Record<string, string> =>
  Object.fromEntries(
    readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        const target = readlinkSync(`/proc/self/fd/${fd}`)
        return target.startsWith('socket:') ? [[fd, target]] : []
      } catch {
        return []
      }
    }),
  )

process.env.LISTEN_PID = String(process.pid)
const given = sockets()
const { saved } = takeEnvironment(process.env)
const taken = sockets()
restoreEnvironment(saved, process.env)
const { LISTEN_FDS } = process.env
process.stdout.write(JSON.stringify({ given, saved, taken, back: sockets(), LISTEN_FDS }))
