// From the broker to the table to the subscribers. The library acknowledges a message when it has been received, before
// it is stored: a crash loses messages that the broker has forgotten.
import { createHash } from 'node:crypto';
import { EventEmitter } from 'node:events';
import mqtt from 'mqtt';
import { store } from './store.mjs';

/** Stored readings, by `home:ID` and `device:ID`. */
export const stored = new EventEmitter().setMaxListeners(0);

export function ingest(url, topic, deviceByKey) {
  let waiting = [];
  let isStoring = false;
  async function drain() {
    if (isStoring) return;
    isStoring = true;
    while (waiting.length > 0) {
      const batch = waiting.splice(0, 1000);
      await store(batch);
      for (const reading of batch) {
        stored.emit(`device:${reading.deviceId}`, reading);
        stored.emit(`home:${reading.homeId}`, reading);
      }
    }
    isStoring = false;
  }
  const client = mqtt.connect(url, { protocolVersion: 5, clientId: 'bench-yardstick' });
  client.on('connect', () => client.subscribe(topic, { qos: 1 }));
  client.on('message', (_, payload) => {
    const { timestamp, deviceId, sensors, metadata } = JSON.parse(payload);
    const device = deviceByKey.get(deviceId);
    if (!device) return;
    const dedup = createHash('sha1').update(payload).digest().readBigInt64LE().toString();
    waiting.push({ ...sensors, metadata, dedup, device, deviceId: device.id, homeId: device.homeId,
      recordedAt: new Date(timestamp), receivedAt: new Date() });
    drain();
  });
}
