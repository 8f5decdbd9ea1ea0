use super::*;

const MIB: usize = 1 << 20;

fn memory() -> RequestMemory {
    RequestMemory::new(MemoryLimits { per_user: 8 * MIB, per_address: 12 * MIB, in_all: 32 * MIB }, Metrics::new())
}

fn of(memory: &RequestMemory, user: i64, address: &str) -> Reservation {
    memory.reservation(Some(UserId::from_database(user)), Some(address.parse().unwrap()))
}

fn in_use(memory: &RequestMemory) -> (usize, usize) {
    let used = memory.0.used.lock().unwrap();
    (used.in_all, used.by_key.len())
}

#[test]
fn a_user_and_an_address_have_limits_over_all_their_requests() {
    let memory = memory();
    let first = of(&memory, 1, "2001:db8::1");
    first.grow(6 * MIB).unwrap();
    let second = of(&memory, 1, "192.0.2.1");
    assert_eq!(second.grow(3 * MIB), Err(MemoryExceeded::PerUser));
    second.grow(MIB).unwrap();
    let third = of(&memory, 2, "2001:db8::2");
    assert_eq!(third.grow(7 * MIB), Err(MemoryExceeded::PerAddress));
    third.grow(5 * MIB).unwrap();
    assert_eq!(memory.0.metrics.request_memory.get(), i64::try_from(in_use(&memory).0).unwrap());
    first.shrink(3 * MIB);
    second.another().grow(3 * MIB).unwrap();
    first.shrink_to(0);
    drop((first, second, third));
    assert_eq!(in_use(&memory), (0, 0));
    assert!(memory.0.metrics.render().contains("quota_exceeded_total{reason=\"MEMORY_PER_ADDRESS\"} 1"));
}

#[test]
fn shares_are_small_while_memory_is_scarce_and_small_requests_are_never_refused() {
    let memory = memory();
    let large: Vec<_> = [(1, "192.0.2.1"), (2, "192.0.2.2")].map(|(user, addr)| of(&memory, user, addr)).into();
    for reservation in &large {
        reservation.grow(7 * MIB).unwrap();
    }
    // More than half would be in use: a user may have 1 MiB.
    let third = of(&memory, 3, "192.0.2.3");
    assert_eq!(third.grow(3 * MIB), Err(MemoryExceeded::PerUser));
    third.grow(MIB - STEP_BYTES).unwrap();
    large[0].grow(MIB - STEP_BYTES).unwrap();
    let others: Vec<_> = (4..40).map(|n| of(&memory, n, &format!("192.0.2.{n}"))).collect();
    let n_refused = others.iter().filter(|other| other.grow(MIB - STEP_BYTES).is_err()).count();
    assert!(n_refused > 0 && in_use(&memory).0 <= 32 * MIB);
    assert_eq!(of(&memory, 99, "192.0.2.99").grow(MIB - STEP_BYTES), Err(MemoryExceeded::InAll));
    for user in [1, 3, 99] {
        of(&memory, user, "192.0.2.1").grow(FREE_BYTES).unwrap();
    }
}

#[test]
fn after_a_refusal_a_user_that_holds_much_is_refused_large_operations_before_they_begin() {
    let memory = memory();
    let [user, other] = [1, 2].map(UserId::from_database);
    let (held, address) = (of(&memory, 1, "192.0.2.1"), "192.0.2.1");
    held.grow(7 * MIB).unwrap();
    assert!(memory.check_large_operation(user).is_ok(), "nothing was refused");
    assert_eq!(of(&memory, 1, address).grow(2 * MIB), Err(MemoryExceeded::PerUser));
    assert_eq!(memory.check_large_operation(user), Err(MemoryExceeded::PerUser));
    assert_eq!(of(&memory, 2, address).grow(6 * MIB), Err(MemoryExceeded::PerAddress));
    assert!(memory.check_large_operation(other).is_ok(), "the limit of an address is not the user's fault");
    held.shrink(3 * MIB);
    assert!(memory.check_large_operation(user).is_ok(), "clients took half of it");
    assert!(memory.0.metrics.render().contains("quota_exceeded_total{reason=\"MEMORY_PER_USER\"} 2"));
}
