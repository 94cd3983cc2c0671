//! What belongs to a core does not leave it, and what cores share may go anywhere. The compiler
//! decides; this file compiles or it does not.

use ringpool::{
    Chunk, Config, Conn, Endpoint, EndpointHandle, Error, Group, Member, Partition, Pool, Shards,
    Stats, Stream,
};

/// Fails to compile if the type is `Send`: then two implementations fit and none can be chosen.
macro_rules! assert_not_send {
    ($($type:ty),* $(,)?) => {
        $(const _: fn() = || {
            trait FitsOnce<Marker> {
                fn fits() {}
            }
            struct Sends;
            impl<T: ?Sized> FitsOnce<()> for T {}
            impl<T: ?Sized + Send> FitsOnce<Sends> for T {}
            let _ = <$type as FitsOnce<_>>::fits;
        };)*
    };
}

assert_not_send!(Pool, EndpointHandle, Conn, Stream, Chunk, Member);

#[test]
fn p11_what_cores_share_may_go_anywhere_and_nothing_else_may() {
    fn shared<T: Send + Sync>() {}
    shared::<Config>();
    shared::<Endpoint>();
    shared::<Error>();
    shared::<Group>();
    shared::<Partition>();
    shared::<Shards>();
    shared::<Stats>();
}
