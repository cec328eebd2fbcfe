import { Common, SelfDescribing } from "./options";

// Snowplow's ecommerce schemas: an action event and its entities.
const BASE = "iglu:com.snowplowanalytics.snowplow.ecommerce/";

type Fields = Record<string, unknown>;

// Sale is the argument of every ecommerce call: fields of the entity, the
// products beside it, and what any event may carry.
export type Sale = Common & Fields & { products?: Fields[]; product?: Fields; name?: string };

// sales maps a call to its action and to the entity that its own fields make; of
// a list they are none.
export const sales: [string, string, string?][] = [
  ["trackProductView", "product_view", "product"],
  ["trackProductListView", "list_view"],
  ["trackProductListClick", "list_click"],
  ["trackAddToCart", "add_to_cart", "cart"],
  ["trackRemoveFromCart", "remove_from_cart", "cart"],
  ["trackCheckoutStep", "checkout_step", "checkout_step"],
  ["trackTransaction", "transaction", "transaction"],
];

const entity = (name: string, data: unknown): SelfDescribing => ({ schema: `${BASE}${name}/jsonschema/1-0-0`, data });

// sell makes the self-describing event of an ecommerce call.
export function sell(type: string, name: string | undefined, sale: Sale): Common & { event: SelfDescribing } {
  const { context, timestamp, products, product, ...own } = sale;
  const goods = (products || []).concat(product || []).map((p) => entity("product", p));
  return {
    event: {
      schema: `${BASE}snowplow_ecommerce_action/jsonschema/1-0-2`,
      data: name ? { type } : { type, name: own.name },
    },
    context: [...(context || []), ...goods, ...(name ? [entity(name, own)] : [])],
    timestamp,
  };
}
