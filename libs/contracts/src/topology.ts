/** Names of the queues and topics, so that no service has to guess another's. */
export const services = ['user-service', 'email-service', 'orchestrator'] as const;
export type ServiceName = (typeof services)[number];

export const commandQueue = (service: ServiceName): string => `${service}.commands`;
export const eventTopic = (service: ServiceName): string => `${service}.events`;
