import { Common, SelfDescribing } from "./options";

// Snowplow's ecommerce schemas: an action event and its entities.
const BASE = "iglu:com.snowplowanalytics.snowplow.ecommerce/";

type Fields = Record<string, unknown>;

// Sale is the argument of every ecommerce call: fields of the entity, the
// products beside it, and what any event may carry.
export type Sale = Common & Fields & { products?: Fields[]; product?: Fields; name?: string };

const entity = (name: string, data: unknown): SelfDescribing => ({ schema: `${BASE}${name}/jsonschema/1-0-0`, data });

// calls maps the call to its action and to the entity that its fields make.
const calls: Record<string, [string, string]> = {
  trackProductView: ["product_view", "product"],
  trackProductListView: ["list_view", ""],
  trackProductListClick: ["list_click", ""],
  trackAddToCart: ["add_to_cart", "cart"],
  trackRemoveFromCart: ["remove_from_cart", "cart"],
  trackCheckoutStep: ["checkout_step", "checkout_step"],
  trackTransaction: ["transaction", "transaction"],
};

// sell turns an ecommerce call into a self-describing event, or nothing when the
// name is none of them.
export function sell(call: string, sale: Sale): (Common & { event: SelfDescribing }) | undefined {
  const kind = Object.prototype.hasOwnProperty.call(calls, call) && calls[call];
  if (!kind) return undefined;
  const { context, timestamp, products, product, ...own } = sale;
  const [type, name] = kind;
  const entities = (products || []).concat(product || []).map((p) => entity("product", p));
  if (name) entities.push(entity(name, own));
  return {
    event: {
      schema: `${BASE}snowplow_ecommerce_action/jsonschema/1-0-2`,
      data: name || !own.name ? { type } : { type, name: own.name },
    },
    context: [...(context || []), ...entities],
    timestamp,
  };
}
