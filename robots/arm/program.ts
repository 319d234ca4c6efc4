// Takes a thing from the one side to the other, each time the button is pressed.
import { robot } from 'medulla'
import { Button } from 'medulla/drivers'

/** Angles in degrees; a joint that is not named stays where it is. Change one while the arm works. */
interface Step {
  name: string
  to: { base?: number; shoulder?: number; elbow?: number; gripper?: number }
  /** The gripper holds something: this program is not replaced before it has put that down. */
  loaded?: boolean
}
const OPEN = 80
const CLOSED = 20
const REST: Step = { name: 'rests', to: { base: 90, shoulder: 90, elbow: 90, gripper: OPEN } }
const STEPS: readonly Step[] = [
  REST,
  { name: 'turns to the thing', to: { base: 30 } },
  { name: 'reaches down', to: { shoulder: 50, elbow: 130 } },
  { name: 'grips', to: { gripper: CLOSED }, loaded: true },
  { name: 'lifts', to: { shoulder: 90, elbow: 90 }, loaded: true },
  { name: 'turns', to: { base: 150 }, loaded: true },
  { name: 'puts it down', to: { shoulder: 50, elbow: 130 }, loaded: true },
  { name: 'lets go', to: { gripper: OPEN } },
  { name: 'draws back', to: { shoulder: 90, elbow: 90 } },
]

robot({
  needs: { base: 'servo', shoulder: 'servo', elbow: 'servo', gripper: 'servo', button: 'input' },
  // The angles need no place here: a servo handle knows what was last written to it, by this program or one before it.
  state: {
    version: 1,
    initial: () => ({
      step: 0, // of STEPS
      waited: 0, // seconds in its place
      carried: 0, // things so far
    }),
  },
  params: {
    pause: { value: 0.3, min: 0, max: 5, unit: 's' }, // between two steps, as a servo is behind its signal
  },
  run({ base, shoulder, elbow, gripper, button, state, params, every, hold, log, info }) {
    const joints = { base, shoulder, elbow, gripper }
    // A version with fewer steps may find itself behind the last one.
    const current = () => STEPS[state.step] ?? REST

    let release: (() => void) | null = null
    const enter = (step: number) => {
      Object.assign(state, { step, waited: 0 })
      log(current().name)
      guard()
    }
    const guard = () => {
      if (current().loaded) release ??= hold('the gripper holds something')
      else {
        release?.()
        release = null
      }
    }

    // After a crash it may hold something, too.
    guard()
    if (info.tookOver) log(`goes on: ${current().name}`)

    new Button(button).onPress(() => {
      if (current() === REST) enter(1)
      else log('is busy', 'warn')
    })

    every(20, (dt) => {
      let there = true
      for (const [name, angle] of Object.entries(current().to)) {
        const joint = joints[name as keyof typeof joints]
        // The board file says how fast it may turn (slew); the value is how far it has come.
        joint.write(angle)
        if (Math.abs(joint.value - angle) > 0.5) there = false
      }
      state.waited = there ? state.waited + dt : 0
      if (current() === REST || state.waited < params.pause) return
      if (state.step < STEPS.length - 1) return enter(state.step + 1)
      state.carried++
      log(`has carried ${state.carried}`)
      enter(0)
    })
  },
})
