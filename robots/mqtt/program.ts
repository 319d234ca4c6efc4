// A lamp and a button on MQTT: ID/lamp/set switches the lamp, ID/button reports the button.
import { robot } from 'medulla'
import { connect, type Link } from './link.ts'

const BROKER = 'mqtt://127.0.0.1:1883'
const ID = 'medulla-lamp'

robot({
  needs: { lamp: 'output', button: 'input' },
  state: { version: 1, initial: () => ({ on: false }) },
  run({ lamp, button, state, every, onLive, log }) {
    let link: Link | null = null
    // This program drives the hardware now. The function that is returned ends the link before another program connects, so
    // the broker never sees two clients with this id.
    onLive(() => {
      const live = connect({ url: BROKER, id: ID, onLamp: (on) => Object.assign(state, { on }), log })
      live.say('lamp', state.on ? 'on' : 'off')
      link = live
      return () => {
        link = null
        return live.end()
      }
    })

    button.onEdge(({ level }) => link?.say('button', level === 1 ? 'pressed' : 'released'))
    // Control goes on without a broker.
    every(20, () => {
      if (lamp.value === Number(state.on)) return
      lamp.write(state.on)
      link?.say('lamp', state.on ? 'on' : 'off')
    })
  },
})
