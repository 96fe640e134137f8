import { TransientError } from '../errors.js';
import { errorText, silentLogger } from '../logger.js';
import { createClient, type KafkaConnection } from './kafka-client.js';

/**
 * Asks the brokers once, and quietly, whether they can be used.
 * @throws TransientError that says why not
 */
export async function checkKafka(connection: KafkaConnection): Promise<void> {
  const { kafka, gate } = createClient(connection, silentLogger);
  const admin = kafka.admin({ retry: { retries: 0 } });
  try {
    await admin.connect();
    await admin.describeCluster();
  } catch (error) {
    const { brokers } = connection;
    throw new TransientError(
      `Kafka at ${brokers.join(', ')} cannot be used (${errorText(error)}): start it, or correct KAFKA_BROKERS`,
      { cause: error },
    );
  } finally {
    gate.cut();
  }
}
