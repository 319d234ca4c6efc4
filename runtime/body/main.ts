/**
 * Runs the body: it owns the handles and the programs, and reads no network. It ends at SIGINT and SIGTERM, or when the
 * endpoint cannot serve, and ends every program first.
 */
import type { Refusal } from '../../deploy/shared/errors.ts'
import { watchOperators } from '../store/watchoperators.ts'
import { Body } from './body.ts'
import { EndpointLink } from './endpoint/endpointlink.ts'
import { TraceFile } from './hardware/trace.ts'
import type { BodyOptions } from './options.ts'
import { Installer } from './orders/installer.ts'

export interface BodyReport {
  listening(at: { name: string; id: string; host: string; port: number; home: string }): void
  failed(refusal: Refusal): void
  note(level: 'info' | 'warn' | 'error', text: string): void
}

/** Resolves when the body has ended. */
export async function runBody(options: BodyOptions, report: BodyReport): Promise<void> {
  const body = await Body.open(options)
  const trace = options.trace === undefined ? null : new TraceFile(options.trace)
  const untrace = trace === null ? () => {} : body.pins.onChange((change) => trace.add(change))
  await new Promise<void>((resolve) => {
    const link = new EndpointLink(body, new Installer(body), {
      note: report.note,
      listening(port) {
        const { name, id, dir: home } = body.home
        report.listening({ name, id, host: options.host, port, home })
      },
      failed(refusal) {
        report.failed(refusal)
        void end()
      },
    })
    body.begin()
    const reload = () => {
      body.operators
        .reload()
        .then(() => link.operatorsChanged())
        .catch((error: unknown) =>
          report.note('error', `the list of operators could not be read again: ${String(error)}`),
        )
    }
    const unwatch = watchOperators(body.home.dir, reload, (error) => {
      report.note('warn', `the operator files cannot be watched, so changes are read at SIGHUP only: ${error.message}`)
    })
    process.on('SIGHUP', reload)
    // The files may have changed before they were watched.
    reload()
    let ending = false
    const end = async () => {
      if (ending) return
      ending = true
      unwatch()
      await link.close()
      untrace()
      await body.close()
      trace?.close()
      resolve()
    }
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void end())
  })
}
