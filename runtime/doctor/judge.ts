/** Turns facts into the doctor's report. Pure: reads no file and no clock, makes no system call. */
import type { DoctorReport } from '../../deploy/shared/doctor.ts'
import { parseBoard } from '../../drivers/board/board.ts'
import type { Board } from '../../drivers/board/types.ts'
import { BoardError } from '../../drivers/errors.ts'
import { aboutConfinement } from './confine.ts'
import type { Facts } from './facts.ts'
import { act, type Finding, ok, problem, run, warning } from './finding.ts'
import { aboutHardware } from './hardware.ts'
import { aboutMachine } from './machine.ts'
import { modelOf } from './models.ts'

export function judge(facts: Facts): DoctorReport {
  const { finding, board } = aboutBoard(facts)
  return {
    host: facts.host,
    machine: facts.model ?? `${facts.platform} on ${facts.arch}`,
    board: facts.board.text === null ? null : facts.board.file,
    findings: [
      ...aboutMachine(facts, board),
      finding,
      ...aboutHardware(facts, board),
      ...aboutConfinement(facts, board),
    ],
  }
}

function aboutBoard({ board: { file, text, error }, model }: Facts): { finding: Finding; board: Board | null } {
  const about = 'board'
  if (text === null) {
    const found = `no board file: ${file}: ${error}`
    const first = `medulla board new --model ${modelOf(model) ?? 'linux'} ${file}`
    return { finding: warning(about, found, run(first)), board: null }
  }
  try {
    const board = parseBoard(text, file)
    const count = Object.keys(board.handles).length
    return { finding: ok(about, `${file}: model ${board.model}, ${count} handles`), board }
  } catch (mistake) {
    if (!(mistake instanceof BoardError)) throw mistake
    return { finding: problem(about, mistake.message, act(mistake.fix)), board: null }
  }
}
