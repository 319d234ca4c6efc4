/**
 * Runs the body: it owns the handles and the programs, and reads no network. It ends at SIGINT and SIGTERM, or when the
 * endpoint cannot serve, and ends every program first.
 */
import type { Refusal } from '../../deploy/shared/errors.ts'
import { timeScale } from '../../deploy/shared/timescale.ts'
import { onReplaceSignal } from '../signals.ts'
import { baseInstall, choice, execute, limitStart, prepare, type Start, startedWell } from '../start.ts'
import { takeRequest } from '../store/pairingfiles.ts'
import { watchOperators } from '../store/watchoperators.ts'
import type { Body } from './body.ts'
import { type EndpointEvents, EndpointLink } from './endpoint/endpointlink.ts'
import { TraceFile } from './hardware/trace.ts'
import { openBody } from './openbody.ts'
import type { BodyOptions } from './options.ts'
import { firstProgram } from './orders/firstprogram.ts'
import { Installer } from './orders/installer.ts'
import { closeOnExec, replaceBody } from './replace/replace.ts'
import type { SavedBody } from './replace/saved.ts'
import { restoreEnvironment, type ServiceEnvironment } from './service/environment.ts'
import { sickness } from './service/health.ts'
import { Service } from './service/service.ts'
import { statusLine } from './service/statusline.ts'
import { Probation } from './update/probation.ts'
import { RuntimeUpdates } from './update/updates.ts'

export interface BodyReport {
  listening(at: { name: string; id: string; host: string; port: number; home: string }): void
  failed(refusal: Refusal): void
  note(level: 'info' | 'warn' | 'error', text: string): void
}

/** Resolves when the body has ended. */
export async function runBody(
  options: BodyOptions,
  manager: ServiceEnvironment,
  report: BodyReport,
  saved?: SavedBody,
): Promise<void> {
  if (saved !== undefined) closeOnExec(saved)
  const body = await openBody(options, saved)
  const trace = options.trace === undefined ? null : new TraceFile(options.trace, saved !== undefined)
  const untrace = trace === null ? () => {} : body.pins.onChange((change) => trace.add(change))
  const updates = await RuntimeUpdates.open(body, saved?.failed)
  const { runtimes } = updates
  for (const problem of runtimes.problems) report.note('error', problem)
  // The limit of the runtime that has given the programs back goes on otherwise.
  if (saved?.failed !== undefined) startedWell()
  const installer = new Installer(body, updates)
  const first = firstProgram(body, installer, report.note)
  await new Promise<void>((resolve) => {
    let ending: Promise<void> | null = null
    const toStart = new Set(['endpoint', 'programs', ...(first === null ? [] : ['first program'])])
    const started = (what: string) => {
      if (toStart.delete(what) && toStart.size === 0) service?.ready()
    }
    const events: EndpointEvents = {
      note: report.note,
      listening(port) {
        const { name, id, dir: home } = body.home
        report.listening({ name, id, host: options.host, port, home })
        started('endpoint')
      },
      // The programs run without it (HANDOVER 8.3), so it is not waited for twice.
      ended: () => started('endpoint'),
      failed(refusal) {
        report.failed(refusal)
        void end().then(resolve)
      },
    }
    const link = new EndpointLink(body, updates, installer, events, saved?.endpoint)
    const service = serviceOf(manager, body, link, report)
    body.begin(() => started('programs'), saved)
    void first?.().then(() => started('first program'))
    body.pairing.begin()
    // The address is known, so nobody announces it again.
    if (saved !== undefined) started('endpoint')
    const toRun = () => body.all.filter(({ name }) => body.startsAtBegin(name))
    const probation = new Probation({ isServing: () => link.isServing, slots: toRun }, timeScale(), () => {
      startedWell()
      updates.confirm().catch((error: unknown) => {
        report.note('error', `the runtime was not confirmed: ${String(error)}`)
      })
    })
    /** Puts the chosen runtime in the place of this one. Returns only by throwing: then nothing was replaced. */
    const replace = async (by: string | null, restart: boolean): Promise<never> => {
      const before = runtimes.state
      try {
        const base = baseInstall(options.base)
        const digest = await choice(runtimes, base, report.note)
        const start = await prepare(runtimes, { digest, base, args: process.argv.slice(2) })
        if (restart) return await restartAs(start)
        const lastly = () => {
          trace?.flush()
          service?.feed()
          if (start.isPushed) limitStart()
        }
        return await replaceBody(body, link, {
          ...start,
          by,
          service: manager.saved,
          isEnding: () => ending !== null,
          lastly,
        })
      } catch (error) {
        if (probation.isOver) startedWell()
        await runtimes.restore(before)
        throw error
      }
    }
    const restartAs = async (start: Start): Promise<never> => {
      await end()
      try {
        restoreEnvironment(manager.saved, process.env)
        if (!isStopped) execute(start)
      } catch (error) {
        report.note('error', `the runtime was not replaced in its place: ${String(error)}`)
      }
      // The programs have ended; the service manager starts the chosen runtime.
      process.exit(isStopped ? 0 : 1)
    }
    updates.begin({ replace })
    // The package was updated: the programs go on under the runtime that is on disk now (HANDOVER 18.8).
    let replacing = false
    onReplaceSignal(() => {
      if (ending !== null || replacing) return
      replacing = true
      replace(null, false).catch((error: Error) => {
        replacing = false
        report.note('error', `the runtime goes on as it is: ${error.message}`)
      })
    })
    const reload = () => {
      body.operators
        .reload()
        .then(() => {
          link.operatorsChanged()
          body.pairing.operatorsChanged()
        })
        .catch((error: unknown) =>
          report.note('error', `the list of operators could not be read again: ${String(error)}`),
        )
    }
    /** `medulla pair --allow` was typed on the robot (CHANNEL 9.2). */
    const allowPairing = () => {
      takeRequest(body.home.dir)
        .then((request) => {
          if (request !== null && ending === null) body.pairing.open(request.role, request.nonce)
        })
        .catch((error: unknown) => report.note('error', `no pairing window was opened: ${String(error)}`))
    }
    const unwatch = watchOperators(body.home.dir, {
      lists: reload,
      request: allowPairing,
      failed: (error) => {
        report.note(
          'warn',
          `the operator files cannot be watched, so changes are read at SIGHUP only: ${error.message}`,
        )
      },
    })
    process.on('SIGHUP', () => {
      reload()
      allowPairing()
    })
    // The files may have changed before they were watched.
    reload()
    const end = (): Promise<void> => {
      ending ??= (async () => {
        service?.stopping()
        probation.end()
        unwatch()
        await link.close()
        untrace()
        await body.close()
        trace?.close()
        service?.close()
      })()
      return ending
    }
    let isStopped = false
    const stop = async () => {
      if (isStopped) return
      isStopped = true
      // A start that ends by order says nothing about the runtime.
      if (!probation.isOver) await runtimes.ended()
      await end()
      await runtimes.close()
      resolve()
    }
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void stop())
  })
}

/** Null: no service manager wants to hear anything. */
function serviceOf(
  { notify, watchdogMs }: ServiceEnvironment,
  body: Body,
  link: EndpointLink,
  { note }: BodyReport,
): Service | null {
  if (notify === null) return null
  const scale = timeScale()
  return new Service({
    socket: notify,
    watchdogMs,
    scale,
    status: () => statusLine(body.status(), link.isServing),
    sickness: () => sickness({ endpointMs: link.lateMs, silentMs: body.silentMs }, scale),
    note,
  })
}
